"""What the packages promise by name."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import types
import typing

import pytest
from fastapi import FastAPI

import atlas
import atlas.scheduler


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


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = atlas.scheduler.Nonsense


def test_the_whole_is_called_atlas_scheduler() -> None:
    assert atlas.AtlasScheduler.__name__ == "AtlasScheduler"


def test_importing_the_package_alone_loads_no_database_and_no_clock() -> None:
    code = "import sys, atlas.scheduler; print(sorted({'sqlalchemy', 'apscheduler', 'pydantic'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout.strip() == "[]"
