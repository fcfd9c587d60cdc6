"""HTTP/1.1 on both sides of the line: connections, pools, dialling, timers."""
