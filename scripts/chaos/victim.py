"""The process under test: ``atlas serve``, whole or broken on purpose."""

from __future__ import annotations

import argparse
import sys

from scripts.chaos import broken


def main() -> int:
    """Serve; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--break", dest="broken")
    args = parser.parse_args()
    broken.apply(args.broken)
    from atlas.cli.main import main as atlas

    return atlas(["--config", args.config, "serve"])


if __name__ == "__main__":
    sys.exit(main())
