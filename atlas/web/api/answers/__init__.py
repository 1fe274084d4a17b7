"""What the verbs answer: closed objects, so that the description of the API promises every field and no other.

They describe, and nothing is checked by them: `openapi` imports them when somebody asks for the description.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from atlas.web.api.answers import config, jobs, system, tasks

if TYPE_CHECKING:
    from pydantic import BaseModel

ANSWERS: Final[dict[str, type[BaseModel]]] = {**jobs.ANSWERS, **tasks.ANSWERS, **config.ANSWERS, **system.ANSWERS}
"""By the names of the verbs."""
