"""The merchant server: evaluates carts, reserves, redeems and reverses; sells on while cut off.

In: carts from tills and shops, promotions and coupon information from hubs, proofs from wallets.
Out: evaluations, receipts, frames for hubs, reports for hubs. It starts and works without any hub:
then it is a promotion engine for one shop.

    checkout.py    evaluate, reserve, redeem                  -> sconto.redemption
    spending.py    a checkout's decision in the datastore     -> store.ledger, store.orders
    reservations.py  redeem what was reserved, release, expire -> store.orders
    orders.py      an order as it is shown                    -> store.orders
    returns.py     reverse a redemption, whole or by lines    -> sconto.cart.returns
    dry_run.py     evaluate drafts, and at another instant    -> sconto.cart.trial
    codes.py       unique codes: make, import, export; minting.py makes them -> store.codes
    clients.py     recognise a client, coupon information     -> sconto.tokens, store.coupons
    offers.py      accept hubs' promotions; events from hubs  -> store.promotions, store.ledger
    limiting.py    limits by shopper, store, code, period     -> sconto.terms, store.limits
    asking.py      ask hubs for parts, when and before needed -> store.ledger
    moves.py       give a token up that its holder moves      -> store.moves, store.coupons
    closing.py     give parts of hubs' budgets back           -> store.ledger
    restore.py     a new incarnation; a hub's new epoch       -> store.exchange, store.ledger
    frames.py      keep a frame and distribute it to its hub  -> sconto.frames
    pages.py       a till and its orders, for people
    shelf.py       the promotions in force, compiled
    stock.py       what is left of the allotments, for whoever only asks
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping

from sconto.base.errors import UnavailableError
from sconto.base.ids import ID_RANDOM_BYTES, new_id
from sconto.ledger import Amounts
from sconto.servers import admin, authoring, promotions
from sconto.servers.app import Base, wall_clock_ms
from sconto.servers.config import Home
from sconto.servers.endpoint import Endpoint
from sconto.servers.exchange import Apply
from sconto.servers.limits import Guesses
from sconto.servers.merchant import (
    asking,
    checkout,
    clients,
    closing,
    codes,
    frames,
    limiting,
    moves,
    offers,
    orders,
    pages,
    reservations,
    returns,
)
from sconto.servers.merchant.minting import Mint
from sconto.servers.merchant.shelf import Shelf
from sconto.servers.merchant.status import StatusLists
from sconto.servers.merchant.stock import Stock
from sconto.servers.peers import gather_quietly
from sconto.store import access, ledger
from sconto.store import promotions as promotion_store
from sconto.store.processes import ANYTHING, Change
from sconto.store.writer import Tx
from sconto.terms import Terms

log = logging.getLogger("sconto.merchant")

#: A hub that was asked for more is not asked again for this long.
ASK_AGAIN_MS = 30_000
#: How often overdue reservations are looked for.
EXPIRY_PERIOD_S = 1.0


class Merchant:
    """One merchant's server."""

    endpoints: tuple[Endpoint, ...] = (
        *admin.ENDPOINTS,
        *promotions.ENDPOINTS,
        *authoring.ENDPOINTS,
        *offers.ENDPOINTS,
        *checkout.ENDPOINTS,
        *reservations.ENDPOINTS,
        *orders.ENDPOINTS,
        *returns.ENDPOINTS,
        *codes.ENDPOINTS,
        *clients.ENDPOINTS,
        *frames.ENDPOINTS,
        *pages.ENDPOINTS,
    )
    event_handlers: Mapping[str, Apply] = {**offers.EVENT_HANDLERS, **moves.EVENT_HANDLERS}

    def __init__(self, home: Home, clock: Callable[[], int] = wall_clock_ms) -> None:
        self.base = Base(home, clock)
        self.shelf = Shelf(self.base.store)
        self.stock = Stock(self.base.store, home.url)
        self.mint = Mint(self.base.store, home.secret, makes=home.is_first)
        #: A till's key serves many shoppers, of whom some mistype.
        self.code_guesses = Guesses(
            "codes", burst=1000, every_ms=100, burst_all=5000, every_all_ms=20
        )
        #: Promotions, or counters of them, that more allotment was asked for: when (milliseconds),
        #: and how much.
        self._asked: dict[tuple[str, str], tuple[int, Amounts]] = {}
        #: When promotions, or counters of them, were last redeemed or reserved (milliseconds),
        #: since the start.
        self.spent_at_ms: dict[tuple[str, str], int] = {}
        #: Promotions that parts of counters were asked for ahead: until when that suffices.
        self._provided: dict[str, int | None] = {}
        #: When ended counters were last forgotten (milliseconds).
        self.forgot_at_ms = self.base.clock()
        self.base.store.on_change = self.changed
        self.shelf.load()  # only now, so that no change is missed

    async def start(self) -> None:
        await self.base.start()
        self.status_lists = StatusLists(self.base)
        self.mint.start()
        self._expiry: asyncio.Task[None] | None = None
        if self.base.home.is_first:
            self._expiry = asyncio.create_task(self._expire(), name="expire reservations")

    async def stop(self) -> None:
        await self.mint.stop()
        await gather_quietly([] if self._expiry is None else [self._expiry])
        await self.status_lists.close()
        await self.base.stop()

    def promotion_opened(self, tx: Tx, promotion_id: str, added: Amounts) -> None:
        """The merchant's own budget: all of it is this merchant's to spend, as one part."""
        home = self.base.home
        held = ledger.available(tx.connection, home.url, [promotion_id]).get(promotion_id)
        if held:
            ledger.extend(tx, held[0], added)
            return
        allotment_id = new_id(tx.now_ms, secrets.token_bytes(ID_RANDOM_BYTES))
        ledger.grant(
            tx,
            allotment_id,
            promotion_id,
            holder=home.url,
            incarnation=home.incarnation,
            needed=added,
            holders=1,
        )

    def check_limits(self, before: Terms | None, terms: Terms) -> None:
        """This merchant keeps the limits of its own promotions alone, so that all are exact."""

    def promotion_changed(self, tx: Tx, promotion: promotion_store.Promotion) -> None:
        tx.announce("promotion", promotion.promotion_id)

    def changed(self, change: Change) -> None:
        """What this or another process has changed is taken up. In any thread."""
        kind, subject = change
        if kind == "promotion":
            self.shelf.refresh(subject)
        elif kind == "asked":
            uses, minor, at_ms, of = subject.split(" ", 3)
            self._asked[asking.read_budget(of)] = int(at_ms), Amounts(int(uses), int(minor))
        elif kind == "granted":
            promotion_id, counter = asking.read_budget(subject)
            # The hub answered: it may be asked again when this runs low too.
            self._asked.pop((promotion_id, counter), None)
            if counter:  # perhaps a new one, of which the next period's is not asked for yet
                self._provided.pop(promotion_id, None)
        elif kind == "codes":
            self.base.soon(self.mint.wake)
        elif change == ANYTHING:
            self.shelf.load()
            self._asked.clear()
            self._provided.clear()
        self.base.changed(change)

    def peer_added(self, tx: Tx, peer: access.Peer) -> None:
        """A hub introduces itself by sending its promotions; nothing is needed here."""

    def asked_lately(self, promotion_id: str, counter: str, needed: Amounts, now_ms: int) -> bool:
        """Whether the hub was asked for so much of a promotion and may still answer."""
        asked_at_ms, asked = self._asked.get(
            (promotion_id, counter), (-ASK_AGAIN_MS, Amounts(0, 0))
        )
        return asked_at_ms + ASK_AGAIN_MS > now_ms and needed.fits(asked)

    def lacks_ahead(self, promotion_id: str, now_ms: int) -> bool:
        """Whether parts of counters have to be asked for ahead."""
        until_ms = self._provided.get(promotion_id, 0)
        return until_ms is not None and until_ms <= now_ms

    def has_provided(self, promotion_id: str, until_ms: int | None) -> None:
        self._provided[promotion_id] = until_ms

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_PERIOD_S)
            try:
                await reservations.expire_overdue(self)
                await closing.finish(self)
                await asking.provide(self)
                await limiting.forget_ended(self)
            except UnavailableError as error:
                log.warning("reservations not expired; trying again", extra={"why": str(error)})
            except Exception:
                log.exception("reservations could not be expired; trying again")
