"""The command line, a file per group. Parsing and dispatch only: commands import what they need when called."""
