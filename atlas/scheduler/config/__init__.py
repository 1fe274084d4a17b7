"""The jobs file as something that is edited: the file on disk, what an edit changes, and what it would do."""
