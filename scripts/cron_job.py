#!/usr/bin/env python3
"""One built-in job now, or the scheduler: here when no scheduler holds the store, else by the one that does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("collect", "cleanup", "health", "report")
EPILOG = """\
exit codes: 0 it succeeded · 1 it failed (or health is failing) · 2 usage or bad config · 130 interrupted"""


def main() -> int:
    """Parse and do it; returns the exit code."""
    sys.path.insert(0, str(ROOT))  # this checkout, installed or not
    from atlas.cli.main import perform
    from atlas.cli.parsing import Parser

    args = _parse(Parser(prog="cron_job.py", description="One built-in job now, or the scheduler.", epilog=EPILOG))
    return perform("serving:serve" if args.scheduler else "once:once", args)


def _parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--scheduler", action="store_true", help="run the scheduler until Ctrl-C")
    what.add_argument("--task", choices=TASKS, metavar="T", help=f"run one job once: {', '.join(TASKS)}")
    parser.add_argument("--dry-run", action="store_true", help="with --task cleanup: only count what would be removed")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--verbose", action="store_true", help="log lines, every part of the result, tracebacks")
    parser.add_argument("--config", metavar="FILE", help=f"settings (ATLAS_CONFIG, else {ROOT}/config/config.yaml)")
    args = parser.parse_args()
    if args.dry_run and args.task != "cleanup":
        parser.error("--dry-run goes with --task cleanup")
    args.config = args.config or os.environ.get("ATLAS_CONFIG") or str(ROOT / "config" / "config.yaml")
    return args


if __name__ == "__main__":
    sys.exit(main())
