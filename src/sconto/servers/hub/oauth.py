"""Refusals in the words of OAuth 2.0 (RFC 6749, RFC 6750) and OpenID4VCI 1.0."""

import msgspec

from sconto.base.errors import LocalError, ScontoError, UnavailableError
from sconto.servers import problems
from sconto.servers.endpoint import JSON, Answer


class OAuthError(LocalError):
    """A refusal in the words of OAuth 2.0 or OpenID4VCI: `code` is their error code."""


def oauth_answer(error: ScontoError) -> Answer:
    """An error as RFC 6749 section 5.2 and OpenID4VCI section 8.3.1 write it."""
    status = 400
    headers: tuple[tuple[str, str], ...] = ()
    code = error.code if isinstance(error, OAuthError) else "invalid_request"
    if isinstance(error, UnavailableError):
        status, code = problems.status_of(error), "temporarily_unavailable"
        headers = (("retry-after", str(error.retry_after_s)),)
    elif error.code == "too_large":
        status = 413
    elif code == "invalid_token":
        status, headers = 401, (("www-authenticate", 'Bearer error="invalid_token"'),)
    elif code == "invalid_client":
        status = 401
    said = error.message + (f" ({error.field})" if error.field else "")
    plain = problems.plain(said, 500)
    description = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in plain)
    body = {"error": code, "error_description": description}
    return Answer(msgspec.json.encode(body), status, JSON, headers)
