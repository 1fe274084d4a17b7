"""Under which prefix the site is seen, whatever stands before it: a mount, a proxy that strips its prefix or keeps it.

::

    browser            proxy          app.mount("/scheduler", …)     path        root_path
    /ops/scheduler/x   strips /ops    FastAPI(root_path="/ops")      /scheduler/x      /ops/scheduler   → placed
    /ops/scheduler/x   keeps it       FastAPI(root_path="/ops")      /ops/scheduler/x  /ops/scheduler

The ASGI specification wants the second line, where ``path`` begins with ``root_path``, and everything behind the guard
relies on it; an outer app that is only told its ``root_path`` leaves the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def placed(scope: Scope) -> Scope:
    """``scope`` with a path that begins with its root path."""
    root, path = str(scope.get("root_path", "")).rstrip("/"), str(scope["path"])
    if _begins(path, root):
        return scope
    # What the routers on the way took off the path, without what a proxy took off before them.
    mounted = root.removeprefix(str(scope.get("app_root_path", root)).rstrip("/"))
    below = path.removeprefix(mounted) if _begins(path, mounted) else path
    return {**scope, "root_path": root, "path": root + (below or "/")}


def _begins(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


class Prefixed:
    """``app`` as a reverse proxy shows it below ``root_path``, such as ``/scheduler``; it may strip that or keep it."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say where ``app`` is."""
        await self._app({**scope, "root_path": self._root_path}, receive, send)
