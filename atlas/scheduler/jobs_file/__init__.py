"""What `config/cron_jobs.json` says: its bytes, JSON with positions, its format, and the definitions made of it."""
