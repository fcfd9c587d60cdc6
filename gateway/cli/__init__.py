"""The command line: check, keys, schema, serve, simulate."""
