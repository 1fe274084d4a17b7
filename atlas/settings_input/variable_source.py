"""What a variable says, by the rules of pydantic-settings; its own module, since few installations set any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_settings import EnvSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel
    from pydantic_settings import BaseSettings

NESTED: Final = "__"


def value_of(name: str, text: str, settings: type[BaseModel], prefix: str) -> dict[str, Any]:
    """The data that one variable is for ``settings``: JSON read, ``null`` as None.

    Raises:
        ValueError: It is not the JSON that the place it sets wants.
    """
    return _One(name, text, settings, prefix)()


class _One(EnvSettingsSource):
    """The variable it is given, in place of the process's own."""

    def __init__(self, name: str, text: str, settings: type[BaseModel], prefix: str) -> None:
        self._given = {name: text}
        super().__init__(
            cast("type[BaseSettings]", settings),
            case_sensitive=False,
            env_prefix=prefix,
            env_prefix_target="variable",
            env_nested_delimiter=NESTED,
            env_parse_none_str="null",
        )

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(self._given, self.case_sensitive, self.env_ignore_empty, self.env_parse_none_str)
