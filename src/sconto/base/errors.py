"""The three kinds of "no", never mixed (see docs/adr/0003-refusals-as-values.md).

1. A *refusal* is an expected answer and a value (`sconto.cart.Refusal`, `sconto.ledger.Refused`).
2. An *error* is an exception for broken input, a broken peer or a broken wire: the classes here.
3. An *invariant* that does not hold is our own mistake; `invariant` raises and nobody catches it.
"""

from typing import Any


class ScontoError(Exception):
    """Root of all errors. `code` is stable and documented in docs/reference/codes.md.

    `field` is a JSON path into the offending document (`cart.lines[0].quantity`), `remedy` says
    what to do about it, `figures` are numbers that the problem document carries along.
    """

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        remedy: str | None = None,
        **figures: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.field = field
        self.remedy = remedy
        self.figures = figures


class LocalError(ScontoError):
    """We, or the caller of our API, did something wrong."""

    code = "invalid_input"


class InvalidInputError(LocalError):
    """A document does not have the form that it must have; the field is named."""

    code = "invalid_input"


class NotFoundError(LocalError):
    """There is no such thing, or it belongs to another tenant: the two look the same."""

    code = "not_found"


class ConflictError(LocalError):
    """The id is known with other content, or the state does not allow the act."""

    code = "conflict"


class NotAuthenticatedError(LocalError):
    """Nobody, or nobody we know, made this request."""

    code = "not_authenticated"


class ForbiddenError(LocalError):
    """The caller is known and may not do this; the missing scope is named."""

    code = "forbidden"


class UnavailableError(LocalError):
    """We cannot do it now and nothing was changed; trying again later may help."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: int = 1, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.retry_after_s = retry_after_s


class PeerError(ScontoError):
    """Another server sent something that is wrong; never shown to our own client as ours."""

    code = "peer_error"


class WireError(PeerError):
    """Another server could not be reached, or its answer was cut off."""

    code = "peer_unreachable"


class InvariantError(RuntimeError):
    """Our own mistake. Never caught inside a room; the request ends and the batch rolls back."""


def invariant(condition: bool, why: str) -> None:
    """Stop when `condition` does not hold; unlike `assert` it stays on under `python -O`."""
    if not condition:
        raise InvariantError(why)
