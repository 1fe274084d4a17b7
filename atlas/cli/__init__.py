"""The command line: `main` parses, a file per group of commands does the work, `tables` and `wait` show it."""
