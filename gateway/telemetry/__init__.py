"""What is counted: the metric table, slots in shared files, meters bound per label set."""
