#!/usr/bin/env python3
"""Run the scheduler until Ctrl-C: ``atlas serve`` with this repository's own config/config.yaml, from any folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Parse and serve; returns the exit code."""
    sys.path.insert(0, str(ROOT))  # this checkout, installed or not
    from atlas.cli.main import perform
    from atlas.cli.parsing import Parser

    parser = Parser(prog="run_scheduler.py", description="Run the scheduler until Ctrl-C.")
    parser.add_argument("--config", metavar="FILE", help=f"settings (ATLAS_CONFIG, else {ROOT}/config/config.yaml)")
    parser.add_argument("--verbose", action="store_true", help="tracebacks of unexpected errors")
    args = parser.parse_args()
    args.config = args.config or os.environ.get("ATLAS_CONFIG") or str(ROOT / "config" / "config.yaml")
    return perform("serving:serve", args)


if __name__ == "__main__":
    sys.exit(main())
