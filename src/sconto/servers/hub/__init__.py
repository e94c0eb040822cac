"""The hub: brands' promotions and merchants' frames go in, tokens go out, reports come back.

In: terms from brands, signed frames and reports from merchants, clips from wallets. Out: tokens for
wallets, coupon information and parts of budgets for merchants. It never sees a cart. Read
`clips.py` and `issuing.py` first: how an offer becomes a token.

    catalogue.py    terms in memory, merchants told of changes  -> sconto.terms, store.promotions
    frames.py       PUT /v1/frames/{key}, withdrawals           -> sconto.frames, store.frames
    gallery.py      GET /v1/frames, /frames/{key}/{path}        -> sconto.frames, store.frames
    impressions.py  POST /v1/impressions                        -> sconto.ledger (journal)
    clips.py        POST /v1/clips, GET /v1/credential-offers   -> store.offers, store.tokens
    openid4vci.py   /openid4vci/*, its metadata; oauth.py its errors
    issuing.py      an offer becomes a token                    -> sconto.tokens, store.tokens
    codes.py        codes, offer addresses and access tokens: derived, not stored
    moves.py        POST /v1/tokens/{token_id}/moves, events    -> store.moves, issuing.py
    status.py       revocation, GET /v1/status-lists/{shard}    -> sconto.tokens
    allotments.py   events: taking part, grants, closures       -> sconto.ledger, store.ledger
    counters.py     limits that merchants share               -> sconto.terms, store.ledger
    reports.py      events: what happened at checkouts          -> store.reports
    writeoffs.py    POST /v1/merchants/{tenant_id}/write-offs   -> store.ledger
    incarnations.py events: after a restore, ours or theirs     -> store.ledger, store.exchange

Brands' own endpoints are in `servers/promotions.py`, the operator's in `servers/admin.py`.
"""

import secrets
from collections.abc import Callable, Mapping

from sconto.ledger import Amounts
from sconto.servers import admin, authoring, promotions
from sconto.servers.app import Base, wall_clock_ms
from sconto.servers.config import Home
from sconto.servers.endpoint import Endpoint
from sconto.servers.exchange import Apply, Together
from sconto.servers.hub import (
    allotments,
    catalogue,
    clips,
    counters,
    frames,
    gallery,
    impressions,
    incarnations,
    moves,
    openid4vci,
    pages,
    reports,
    status,
    writeoffs,
)
from sconto.servers.hub.catalogue import Catalogue
from sconto.servers.limits import Guesses
from sconto.store import access
from sconto.store import promotions as promotion_store
from sconto.store.writer import Tx
from sconto.terms import Terms

__all__ = ["Hub"]


class Hub:
    """One hub server. `random` gives so many random bytes; the simulation's are seeded."""

    endpoints: tuple[Endpoint, ...] = (
        *admin.ENDPOINTS,
        *promotions.ENDPOINTS,
        *authoring.ENDPOINTS,
        *frames.ENDPOINTS,
        *gallery.ENDPOINTS,
        *impressions.ENDPOINTS,
        *clips.ENDPOINTS,
        *openid4vci.ENDPOINTS,
        *moves.ENDPOINTS,
        *status.ENDPOINTS,
        *writeoffs.ENDPOINTS,
        *pages.ENDPOINTS,
    )
    event_handlers: Mapping[str, Apply | Together] = {
        **allotments.EVENT_HANDLERS,
        **reports.EVENT_HANDLERS,
        **moves.EVENT_HANDLERS,
        **incarnations.EVENT_HANDLERS,
    }

    def __init__(
        self,
        home: Home,
        clock: Callable[[], int] = wall_clock_ms,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.base = Base(home, clock)
        self.random = random
        self.catalogue = Catalogue()
        #: Addresses of offers, and the codes in them, that there are not.
        self.offer_guesses = Guesses(
            "addresses or codes of offers",
            burst=100,
            every_ms=1000,
            burst_all=2000,
            every_all_ms=50,
        )
        #: Signed status lists by number, with the second that they were signed in.
        self.status_lists: dict[int, tuple[int, str]] = {}

    async def start(self) -> None:
        await self.base.start()

    async def stop(self) -> None:
        await self.base.stop()

    def forget_status_list(self, shard: int) -> None:
        """A token of this list ended: the next caller gets a new one."""
        self.status_lists.pop(shard, None)

    def check_limits(self, before: Terms | None, terms: Terms) -> None:
        """Whether merchants can keep the limits of new terms, exactly."""
        counters.check_exact(terms)
        if before is not None:
            counters.check_same(before, terms)

    def promotion_changed(self, tx: Tx, promotion: promotion_store.Promotion) -> None:
        """Merchants hear of it in the transaction that made it so."""
        catalogue.promotion_changed(tx, promotion)

    def promotion_opened(self, tx: Tx, promotion_id: str, added: Amounts) -> None:
        """A budget is there, or has grown by `added`."""
        allotments.promotion_opened(self, tx, promotion_id)

    def peer_added(self, tx: Tx, peer: access.Peer) -> None:
        """A new merchant hears of what there is."""
        catalogue.peer_added(tx, peer)
