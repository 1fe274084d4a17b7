"""One table of what the command line and the API can do, so that neither gets a verb or an option the other lacks."""

from __future__ import annotations

import re

import pytest

from atlas.cli.commands import COMMANDS
from atlas.cli.parsing import Parser
from atlas.web.api import VERBS
from atlas.web.api.answers import ANSWERS

ALIKE: dict[str, tuple[str, ...] | str] = {
    "serve": "the API is served by it",
    "jobs": ("list_jobs", "get_job"),
    "tasks": ("list_tasks",),
    "task": ("get_task",),
    "run": ("run_job",),
    "submit": ("submit_task",),
    "cancel": ("cancel_task",),
    "retry": ("retry_task",),
    "pause": ("pause_job", "pause_jobs"),
    "resume": ("resume_job", "resume_jobs"),
    "check": ("check",),
    "plan": ("plan",),
    "apply": ("apply",),
    "revisions": ("revisions", "revision"),
    "diff": ("diff",),
    "rollback": ("rollback",),
    "why": ("why_job",),
    "explain": ("explain", "explain_job"),
    "audit": ("audit",),
    "logs": ("task_logs",),
    "report": "a report is a file: run the job daily_report",
    "doctor": ("health", "queue", "metrics"),
    "forecast": ("forecast",),
    "schema": ("schema",),
}
"""Command → the verbs that do it, or why there is none."""

SAME: dict[str, dict[str, str]] = {
    "jobs": {"job": "job"},
    "tasks": {"job": "job", "status": "status", "since": "since", "limit": "limit"},
    "task": {"task": "task"},
    "run": {"job": "job"},
    "submit": {
        "function": "function",
        "arguments": "args",
        "kwargs": "kwargs",
        "priority": "priority",
        "timeout": "timeout",
        "max_retries": "max_retries",
    },
    "cancel": {"task": "task"},
    "retry": {"task": "task"},
    "pause": {"jobs": "jobs", "all": "all", "reason": "reason", "until": "until", "length": "until"},
    "resume": {"jobs": "jobs", "all": "all"},
    "check": {"file": "text"},
    "plan": {"file": "text"},
    "apply": {"file": "text"},
    "revisions": {"limit": "limit"},
    "diff": {"a": "a", "b": "b"},
    "rollback": {"revision": "number"},
    "why": {"job": "job", "at": "at"},
    "explain": {"what": "expression", "timezone": "timezone", "count": "count"},
    "audit": {"subject": "subject", "by": "actor", "since": "since", "limit": "limit"},
    "logs": {"task": "task"},
    "forecast": {"hours": "hours"},
}
"""Command → its arguments → what the verbs call them."""

OF_A_TERMINAL = {"help", "json", "wait", "wait_timeout", "follow"}
"""How it is shown, and waiting for it: a program asks again, or opens /live."""
VERBS_ALONE = {
    *("after", "before"),  # a terminal has no pages
    *("until", "text", "action"),  # of a list
    *("args", "kwargs"),  # of a run
    *("task_id", "name", "executor", "on_crash"),  # of a submission
    "expression",  # `explain` tells a job from an expression itself
    "job",
    "number",
}
BY_NAME = {verb.name: verb for verb in VERBS}


def arguments_of(command: str) -> set[str]:
    parser = Parser(add_help=False)
    for add in next(one for one in COMMANDS if one.name == command).arguments:
        add(parser)
    return {action.dest for action in parser._actions} - OF_A_TERMINAL


def fields_of(verb: str) -> set[str]:
    found = BY_NAME[verb]
    return set(found.takes.model_fields) | set(re.findall(r"{(\w+)}", found.path))


def test_every_command_has_its_verbs_or_a_reason() -> None:
    assert ALIKE.keys() == {command.name for command in COMMANDS}
    assert all(isinstance(verbs, str) or set(verbs) <= BY_NAME.keys() for verbs in ALIKE.values())


def test_every_verb_has_its_command() -> None:
    told = [verb for verbs in ALIKE.values() if isinstance(verbs, tuple) for verb in verbs]
    assert sorted(told) == sorted(BY_NAME)


@pytest.mark.parametrize("command", [name for name, verbs in ALIKE.items() if isinstance(verbs, tuple)])
def test_a_command_and_its_verbs_take_the_same(command: str) -> None:
    same, verbs = SAME.get(command, {}), ALIKE[command]
    assert same.keys() == arguments_of(command)
    taken = set().union(*(fields_of(verb) for verb in verbs))
    assert set(same.values()) <= taken
    assert taken - set(same.values()) <= VERBS_ALONE | {"limit"}


def test_of_every_verb_the_description_knows_what_it_answers() -> None:
    assert list(ANSWERS) == list({verb.name: verb for verb in VERBS})
