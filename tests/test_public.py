"""What the packages promise by name."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

import atlas
import atlas.scheduler
from atlas.scheduler import errors
from atlas.scheduler.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.mark.parametrize("name", atlas.scheduler.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(atlas.scheduler, name)
    assert value.__module__.startswith("atlas.scheduler.")


@pytest.mark.parametrize("name", ["Job", "Metrics", "RetryPolicy", "Task"])
def test_the_fields_of_a_public_value_have_types_that_a_web_handler_can_return(name: str) -> None:
    kind = getattr(atlas.scheduler, name)
    assert typing.get_type_hints(kind).keys() >= {field.name for field in dataclasses.fields(kind)}

    def handler() -> None:
        pass

    app = FastAPI()
    app.get("/all", response_model=types.GenericAlias(list, kind))(handler)
    assert "/all" in app.openapi()["paths"]


def every_error() -> Iterator[BaseException]:
    """One of each, with all that it can hold."""
    problem = errors.Problem(file=Path("jobs.json"), path="a", message="m", value="v", line=1, column=2)
    yield errors.TaskStopped("timeout")
    yield errors.ConfigError([problem])
    yield errors.RevisionRefusedError("no")
    yield errors.UnknownRevisionError(3, newest=2)
    yield errors.CronExpressionError("61 * * * *", "too large", field="minute", token="61")
    yield errors.ScheduleError("no")
    yield errors.UnknownFunctionError("collekt", nearest="collect")
    yield errors.FunctionRefusedError("no")
    yield errors.ArgumentsError(Message("{n} is none", n=5))
    yield errors.UnknownTaskError("t")
    yield errors.DuplicateTaskError("t")
    yield errors.TransitionError("t", "RUNNING", "PENDING")
    yield errors.TaskUnfinishedError("t", "no")
    yield errors.TaskFailedError("t", "ValueError: no", cause="lost")
    yield errors.TaskTimeoutError("t", "no")
    yield errors.TaskCancelledError("t", "no")
    yield errors.ResultOmittedError("t", "no")
    yield errors.ResultNotReadyError("t", "no")
    yield errors.QueueFullError(3)
    yield errors.QueueStoppedError("no")
    yield errors.UnknownJobError("j", nearest="k")
    yield errors.JobBusyError("j", "t")
    yield errors.JobUnboundError.without_function("j", "no")
    yield errors.JobRefusedError("j", "no")
    yield errors.JobOwnershipError("j", "no")
    yield errors.StoreUnavailableError("no", waited_s=1.0, may_pass=False)
    yield errors.StoreHeldError("sqlite://", "process 5")
    yield errors.LeaseLostError("sqlite://")
    yield errors.StoreVersionError("no")
    yield errors.StoreMismatchError("no")


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_comes_whole_out_of_another_process(error: BaseException, copied: Callable[[Any], Any]) -> None:
    other = copied(error)
    assert type(other) is type(error)
    assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


def test_no_error_is_left_out() -> None:
    def leaves(kind: type) -> set[type]:
        below: list[type] = kind.__subclasses__()
        return set().union(*map(leaves, below)) if below else {kind}

    ours = {kind for kind in leaves(errors.AtlasError) if kind.__module__ == errors.__name__}
    assert ours <= {type(error) for error in every_error()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = atlas.scheduler.Nonsense


def test_the_whole_is_called_atlas_scheduler() -> None:
    assert atlas.AtlasScheduler.__name__ == "AtlasScheduler"


def test_importing_the_package_alone_loads_no_database_and_no_clock() -> None:
    code = "import sys, atlas.scheduler; print(sorted({'sqlalchemy', 'apscheduler', 'pydantic'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout.strip() == "[]"
