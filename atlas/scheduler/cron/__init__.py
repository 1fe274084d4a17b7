"""Cron texts: what they mean, when they fire next, what they say in words. Pure: no clock, no APScheduler."""
