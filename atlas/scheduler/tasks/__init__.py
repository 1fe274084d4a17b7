"""An unfinished task on its way from its submission to its end.

::

    submission ─► acceptance ─► admission ─► line ─► lifecycle ─► its final row
                                                     ▲       ▲
                  timekeeper: retries, timeouts ─────┘       └── stopping ◄── cancellation, shutdown

What they share is in live_tasks, one task of it in live; live_view only looks. Logs and capture keep what tasks log.
"""
