"""What workers and control tell each other: frames over a socket, and a table in shared memory."""
