"""Endpoints of the pages that every server has: sign in and out, static files."""

import re
from typing import TYPE_CHECKING

from sconto.base.errors import NotAuthenticatedError, NotFoundError
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.servers.pages import static_file
from sconto.servers.principal import SESSION_LIFE_MS, make_session

if TYPE_CHECKING:
    from sconto.servers.app import Server

#: One slash, then visible ASCII without the characters that browsers read as a second slash.
_LOCAL = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?")


@endpoint("GET", "/login", scope="", summary="Sign in with an API key", is_page=True)
async def login_page(server: "Server", call: Call) -> Answer:
    pages = server.base.pages
    return pages.answer("login.html", next=_local(call.query.get("next", "/")), wrong=False)


@endpoint("POST", "/login", scope="", summary="Sign in", is_page=True, max_bytes=8192)
async def login(server: "Server", call: Call) -> Answer:
    base = server.base
    base.pages.check_origin(call)
    form = call.form()
    target = _local(form.get("next", "/"))
    try:
        principal = base.principal_of_key(call, form.get("api_key", "").strip())
    except NotAuthenticatedError:
        return base.pages.answer("login.html", status=401, next=target, wrong=True)
    cookie = make_session(base.home.secret, principal.key_id or "", base.wall_clock())
    return base.pages.redirect(target, base.pages.set_cookie(cookie, SESSION_LIFE_MS // 1000))


@endpoint("POST", "/logout", scope="", summary="Sign out", is_page=True, max_bytes=8192)
async def logout(server: "Server", call: Call) -> Answer:
    server.base.pages.check_origin(call)
    return server.base.pages.redirect("/", server.base.pages.set_cookie("", 0))


@endpoint("GET", "/static/{name:str}", scope="", summary="Style and scripts", is_page=True)
async def static(server: "Server", call: Call) -> Answer:
    found = static_file(call.params["name"])
    if found is None:
        raise NotFoundError("there is no such file")
    content, kind = found
    return Answer(content, media_type=kind, headers=(("cache-control", "public, max-age=300"),))


ENDPOINTS = (login_page, login, logout, static)


def _local(target: str) -> str:
    """A path on this server, whatever somebody put into the link.

    >>> _local("/tokens?after=1"), _local("//evil.example"), _local("https://evil.example/")
    ('/tokens?after=1', '/', '/')
    """
    return target if _LOCAL.fullmatch(target) else "/"
