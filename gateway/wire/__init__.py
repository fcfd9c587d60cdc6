"""What goes over the wire: JSON, server-sent events, dialects. Pure."""
