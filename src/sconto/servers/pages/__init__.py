"""Pages for people: one small set of templates for all servers, rendered on the server.

In: values that an endpoint found. Out: HTML with a content security policy that allows nothing
from anywhere else. No page has a script of its own making unless it is served from /static.
"""

from pathlib import Path
from typing import Any

import jinja2

from sconto.base.clock import rfc3339
from sconto.base.errors import ForbiddenError
from sconto.base.money import format_money
from sconto.servers.config import Home
from sconto.servers.endpoint import Answer, Call

HTML = "text/html; charset=utf-8"
FOLDER = Path(__file__).parent


class Pages:
    """The templates of one server."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["server"] = home
        self._environment.filters["money"] = format_money
        self._environment.filters["instant"] = rfc3339

    def answer(
        self,
        template: str,
        *,
        status: int = 200,
        frame_sources: tuple[str, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
        **values: Any,
    ) -> Answer:
        """A rendered page; `frame_sources` are origins that it may embed."""
        body = self._environment.get_template(template).render(values).encode()
        frames = " ".join(frame_sources) or "'none'"
        policy = (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
            f"connect-src 'self'; frame-src {frames}; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        return Answer(
            body,
            status,
            HTML,
            (("content-security-policy", policy), *headers),
        )

    def error(self, call: Call, problem: dict[str, Any]) -> Answer:
        """An error as a page: what happened and how to mend it."""
        return self.answer("error.html", status=problem["status"], problem=problem)

    def check_origin(self, call: Call) -> None:
        """A form posted with a cookie must come from our own pages (RFC 6454), not another site's.

        Raises ForbiddenError (`cross_site`).
        """
        if call.method in ("GET", "HEAD"):
            return
        origin = call.header(b"origin")
        if origin != self._home.url:
            raise ForbiddenError(
                "this form was sent from another site", code="cross_site", field="Origin"
            )
