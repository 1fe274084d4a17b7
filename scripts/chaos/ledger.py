"""The ledger: append-only files of JSON lines, each written by one call, so that kill -9 leaves whole lines.

What a function writes is the truth about what ran; what the store says is the claim that is held against it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = "CHAOS_FOLDER"
"""The variable that names the folder of a run."""

WORK: Final = "work.jsonl"
"""Starts and ends, by the functions."""
ACCEPTED: Final = "accepted.jsonl"
"""What `submit` and `cancel` acknowledged, by the producer."""
FAULTS: Final = "faults.jsonl"
"""What was done to the scheduler, by the driver."""


def write(name: str, /, **entry: Any) -> None:
    """Append one line to the file ``name``, with the time."""
    line = json.dumps({"at": time.time(), **entry}, separators=(",", ":")) + "\n"
    handle = os.open(Path(os.environ[FOLDER]) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def read(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Every line of a file, oldest first; none if there is no such file."""
    path = folder / name
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
