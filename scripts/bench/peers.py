"""The peers' interpreter: a virtual environment of its own, from the bench's lock, made when it is first needed."""

from __future__ import annotations

import subprocess
import sys
import venv
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".venv-bench"
LOCK: Final = Path(__file__).with_name("requirements.lock")


class PeersMissingError(Exception):
    """The peers cannot be installed here."""


def is_installed() -> bool:
    """True if what is locked now is there."""
    stamp = FOLDER / "installed.lock"
    return stamp.exists() and stamp.read_bytes() == LOCK.read_bytes()


@cache
def interpreter() -> Path:
    """The peers' Python, with what is locked for them.

    Raises:
        PeersMissingError: pip did not manage.
    """
    python = FOLDER / "bin" / "python"
    if not is_installed():
        print(f"installing the peers into {FOLDER.name}", file=sys.stderr)
        venv.create(FOLDER, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(  # noqa: S603 - fixed above
            [*pip, "--require-hashes", "-r", str(LOCK)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise PeersMissingError(f"the peers cannot be installed: {last}")
        (FOLDER / "installed.lock").write_bytes(LOCK.read_bytes())
    return python


def missing() -> str | None:
    """Why nothing can be run with the peers' interpreter; None if it can."""
    try:
        interpreter()
    except PeersMissingError as error:
        return str(error)
    return None
