"""The front door: settings, the embedded PostgreSQL, the supervisor, the command line; it wires the packages."""
