"""Runs one side of one measure in an interpreter of its own and prints its figures as one line of JSON."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(module: str, side: str, size: str, folder: str) -> None:
    """Run it."""
    measure = importlib.import_module(module).MEASURE
    chosen = next(one for one in measure.sides if one.name == side)
    print(json.dumps(chosen.run(Path(folder), int(size))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
