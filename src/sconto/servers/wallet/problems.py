"""A hub's or merchant's "no" in our own words: their errors are never passed on as ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sconto.base.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PeerError,
    UnavailableError,
    WireError,
)

RETRY_AFTER_S = 2
#: Fields of ours that have the same name at the peer.
_SHARED_FIELDS = frozenset({"frame_id", "promotion_id", "at", "client", "nonce", "merchant"})
#: Answers that are about the link between the servers, not about what was asked for.
_OURS_TO_MEND = frozenset({401, 403, 405, 413, 415})


@asynccontextmanager
async def asking(peer: str, *, refused: str = "clip_refused") -> AsyncIterator[None]:
    """Around everything that a peer is asked, so that our caller hears what it can do about it.

    1. No answer, or "later": UnavailableError `hub_unreachable` (`merchant_unreachable`), 503.
    2. "There is no such thing": NotFoundError. Another "no": ConflictError with code `refused`.
    3. An answer that breaks the protocol or a promise: PeerError, 502.

    The peer's own code stands in `peer_code`.
    """
    who = "merchant" if refused == "link_refused" else "hub"
    try:
        yield
    except WireError as error:
        raise UnavailableError(
            f"{peer} does not answer just now",
            code=f"{who}_unreachable",
            remedy="send the same request again later: it goes on where it was",
            retry_after_s=RETRY_AFTER_S,
            peer=peer,
        ) from error
    except PeerError as error:
        status = error.figures.get("status", 500)
        field = error.figures.get("peer_field")
        known = field if field in _SHARED_FIELDS else None
        code = str(error.figures.get("peer_code") or "")
        if status == 404:
            raise NotFoundError(
                f"the {who} has no such thing: {error.message}", field=known, peer_code=code
            ) from error
        if 400 <= status < 500 and status not in _OURS_TO_MEND:
            raise ConflictError(error.message, code=refused, field=known, peer_code=code) from error
        raise PeerError(error.message, code="peer_error", peer_code=code, peer=peer) from error
    except InvalidInputError as error:
        if error.code in ("not_offered", "wrong_secret"):
            raise
        raise PeerError(
            f"{peer} broke its promise: {error.message}",
            code="peer_broke_promise",
            field=error.field,
            peer_code=error.code,
            peer=peer,
        ) from error
