"""One file per API: the fields Headgate acts on, usage, error shapes."""
