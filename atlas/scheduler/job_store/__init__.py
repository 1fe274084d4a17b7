"""The job store: APScheduler's table with a pass as one commit, and the jobs as memory and rows have them."""
