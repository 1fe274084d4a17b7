"""Every text of the pages, in English and Chinese."""
