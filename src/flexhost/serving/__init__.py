"""A host as a process: start, serve, reload, stop."""
