"""The tables, their one writer, migrations, leases."""
