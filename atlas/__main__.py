"""``python -m atlas`` is the command ``atlas``."""

from __future__ import annotations

import sys

from atlas.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
