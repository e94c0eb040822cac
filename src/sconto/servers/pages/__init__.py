"""Pages for people: one small set of templates for all servers, rendered on the server.

In: values that an endpoint found. Out: HTML with a content security policy that allows nothing from
anywhere else. What every server has is here (start, sign-in, errors, static files); the pages of a
server are in its own package. A browser signs in with an API key and gets a session cookie.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from sconto.base.clock import rfc3339
from sconto.base.errors import ForbiddenError
from sconto.base.money import format_money
from sconto.servers.config import Home
from sconto.servers.endpoint import Answer, Call
from sconto.servers.principal import SESSION_COOKIE

HTML = "text/html; charset=utf-8"
FOLDER = Path(__file__).parent
STATIC_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: What stands in the bar of each kind of server.
LINKS = {
    "hub": (("/gallery", "Offers"), ("/promotions", "Promotions"), ("/schema", "API")),
    "merchant": (("/checkout", "Checkout"), ("/orders", "Orders"), ("/schema", "API")),
    "wallet": (("/tokens", "My coupons"), ("/schema", "API")),
}


class Pages:
    """The templates of one server."""

    def __init__(self, home: Home) -> None:
        self._home = home
        #: Cookies do not know ports: each server on a machine needs a name of its own.
        # `__Host-`: no other host of the domain, such as the frames' one, can set it (RFC 6265bis).
        self._is_https = home.url.startswith("https:")
        prefix = "__Host-" if self._is_https else ""
        self.cookie = f"{prefix}{SESSION_COOKIE}_{home.incarnation[-10:].lower()}"
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {"server": home, "links": LINKS[home.kind]}
        self._environment.filters |= {"money": format_money, "instant": rfc3339}

    def answer(
        self,
        template: str,
        *,
        status: int = 200,
        signed_in: bool = False,
        embeds: tuple[str, ...] = (),
        form_targets: tuple[str, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
        **values: Any,
    ) -> Answer:
        """A rendered page. `embeds`: origins that it may embed; `form_targets`: origins that a
        form of it may lead to, beside this one."""
        body = self._environment.get_template(template).render(values, signed_in=signed_in)
        frame_sources = " ".join(embeds) or "'none'"
        form_action = " ".join(["'self'", *form_targets])
        policy = (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
            f"connect-src 'self'; frame-src {frame_sources}; form-action {form_action}; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        safe = (
            ("content-security-policy", policy),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        )
        return Answer(body.encode(), status, HTML, (*safe, *headers))

    def error(self, call: Call, problem: dict[str, Any]) -> Answer:
        """An error as a page: what happened and how to mend it; or the way to sign in."""
        if problem["status"] == 401 and call.method == "GET":
            return self.redirect(f"/login?next={quote(call.raw_target, safe='')}")
        return self.answer(
            "error.html",
            status=problem["status"],
            signed_in=self.has_session(call),
            problem=problem,
        )

    def redirect(self, target: str, *headers: tuple[str, str]) -> Answer:
        """See another page (303): after a form, so that a reload repeats nothing."""
        return Answer(b"", 303, HTML, (("location", target), *headers))

    def has_session(self, call: Call) -> bool:
        return self.cookie in call.cookies()

    def set_cookie(self, value: str, max_age_s: int) -> tuple[str, str]:
        """A cookie that no script reads and no other site sends along with a form."""
        secure = "; Secure" if self._is_https else ""
        text = f"{self.cookie}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}"
        return "set-cookie", text

    def check_origin(self, call: Call) -> None:
        """A form must come from our own pages (RFC 6454), not from another site's.

        Raises ForbiddenError (`cross_site`).
        """
        if call.method not in ("GET", "HEAD") and call.header(b"origin") != self._home.url:
            raise ForbiddenError(
                "this form was sent from another site", code="cross_site", field="Origin"
            )


def static_file(name: str) -> tuple[bytes, str] | None:
    """A file of ours and its type; None where there is none of this name."""
    path = FOLDER / "static" / name
    kind = STATIC_TYPES.get(path.suffix)
    if kind is None or "/" in name or not path.is_file():
        return None
    return path.read_bytes(), kind
