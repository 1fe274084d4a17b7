"""What the answers of the API are made of: closed objects, and pages of lists."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item", bound=BaseModel)


class Closed(BaseModel):
    """An object with these fields and no other; it describes, and nothing is checked by it."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class TwoLanguages(Closed):
    """Words in English and Chinese."""

    en: str
    zh: str


class Listed(BaseModel, Generic[Item]):
    """A page of a list."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    items: list[Item]
    next: str | int | None = Field(description="What brings the page that follows; null behind the last.")
