"""Signing in with the token or a link, and out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from atlas.web.access import SESSION_S
from atlas.web.errors import comes_from_elsewhere, once_more
from atlas.web.forms import read_form
from atlas.web.guards import client_of
from atlas.web.rendering import remember
from atlas.web.site import cookie_path, is_local, visit_of
from atlas.web.words.speech import Speech

if TYPE_CHECKING:
    from starlette.requests import Request

    from atlas.web.site import Site


def routes(site: Site) -> list[Route]:
    """``/sign-in`` and ``/sign-out``."""

    async def sign_in(request: Request) -> Response:
        form = await read_form(request) if request.method == "POST" else {}
        visit = visit_of(site, request, form=form)
        say = Speech(visit.language)
        after = form.get("next") or visit.query.get("next", "/")
        after = visit.root + (after if is_local(after) else "/")
        error, status, key = "", 200, client_of(request)
        code, token = visit.query.get("code", ""), form.get("token", "").strip()
        if site.access.is_open:
            return RedirectResponse(after, 303)
        if wait_s := site.guesses.wait_s(key):
            error = say("Too many tries: wait {seconds} s.", seconds=math.ceil(wait_s))
            status = 429
        elif request.method == "POST" and site.access.is_token(token):
            return enter(request, after)
        elif request.method == "POST":
            site.guesses.count(key)
            error, status = say("This is not the token."), 403
        elif code and site.access.spend_code(code):
            return enter(request, after)
        elif code:
            site.guesses.count(key)
            error, status = say("This sign-in link was used already, or is older than 15 minutes."), 403
        context = {"error": error, "next": after.removeprefix(visit.root), "file": site.settings.web.token_file}
        return remember(request, HTMLResponse(site.templates.render("sign_in.html", visit, context), status))

    def enter(request: Request, after: str) -> Response:
        # A redirect would go on from that other site, without the cookie.
        response = once_more(request, after) if comes_from_elsewhere(request) else RedirectResponse(after, 303)
        response.set_cookie(
            site.access.cookie,
            site.access.new_session(),
            max_age=int(SESSION_S),
            path=cookie_path(request),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return response

    async def sign_out(request: Request) -> Response:
        if session := request.cookies.get(site.access.cookie, ""):
            site.access.end_session(session)
            site.live.end(session)
        root = str(request.scope.get("root_path", "")).rstrip("/")
        response = RedirectResponse(f"{root}/sign-in", 303)
        response.delete_cookie(site.access.cookie, path=cookie_path(request), httponly=True, samesite="strict")
        return response

    return [
        Route("/sign-in", sign_in, methods=["GET", "POST"], name="sign_in"),
        Route("/sign-out", sign_out, methods=["POST"], name="sign_out"),
    ]
