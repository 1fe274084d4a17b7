"""How `atlas.scheduler.jobs` reads `config/cron_jobs.json`: JSON with positions, its format, its definitions."""
