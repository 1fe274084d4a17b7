"""The peers' interpreter: a virtual environment of its own, from the bench's lock, made when it is first needed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-bench"
LOCK = Path(__file__).with_name("requirements.lock")


def interpreter() -> Path:
    """The peers' Python, with what is locked for them."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / "installed.lock"
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        print(f"installing the peers into {FOLDER.name}", file=sys.stderr)
        venv.create(FOLDER, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", str(LOCK)], check=True)  # noqa: S603 - fixed above
        stamp.write_bytes(LOCK.read_bytes())
    return python
