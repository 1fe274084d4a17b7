"""Makes the scheduler equal to the jobs file: watches it, plans and previews an edit, applies and keeps it."""
