"""The processes beside the line: the supervisor, and control with policy, metrics and the admin API."""
