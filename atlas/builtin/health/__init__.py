"""The job `health`: is everything as it should be, and if not, what to do.

Each check gives one line: its name, ``ok``, ``degraded`` or ``failing``, what was found, and the remedy. The worst one
is the answer. ``failing`` means that work does not get done, ``degraded`` that it soon may not.
::

    look ─► database · clock · work (config, queue, threads) · jobs (and sources) · machine (disk, memory) ─► checks
"""
