"""Full collections of a served scheduler leave out what lives as long as it does, after each config that is applied."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.installations import Installation, Served

if TYPE_CHECKING:
    from pathlib import Path


def test_a_served_scheduler_and_its_jobs_are_not_looked_at_again(tmp_path: Path) -> None:
    job = {"cron_expression": "@yearly", "function": "work_of_tests:set_aside"}
    made = Installation(tmp_path / "here", {"look": job})
    with Served(made):
        assert gc.get_freeze_count() == set_aside_by_python()  # this process is not the scheduler's
        before = set_aside(made)
        assert before > 20_000
        made.jobs_file.write_text(json.dumps({"cron_jobs": {"look": job, **{f"n{one}": job for one in range(500)}}}))
        assert made.atlas("apply").code == 0
        assert any(set_aside(made) > before + 500 for _ in range(10))


def set_aside_by_python() -> int:
    """How many objects a bare interpreter's collections leave out: none, but 3.12 begins with some hundred."""
    asked = [sys.executable, "-c", "import gc; print(gc.get_freeze_count())"]
    return int(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)


def set_aside(made: Installation) -> int:
    """How many objects the scheduler's collections leave out, as a task of it finds."""
    done = made.atlas("run", "look", "--wait", "--json")
    assert done.code == 0, done.err
    return int(done.json["result"])
