"""The wallet server: holds the tokens of its accounts, and the keys that the tokens are bound to.

In: offers that a shopper takes, tokens from hubs, reports of hubs about what was used. Out: tokens
with proofs for merchants, savings. It shows what it holds with every hub and merchant away. It
never learns what was bought: a cart that it chooses tokens for is not kept.

    accounts.py       open accounts; who acts for whom           -> store.wallet
    clips.py          an offer becomes a token, exactly once     -> course.py
    course.py         the steps of a clip                        -> sconto.wallet, issuer.py
    tokens.py         what is held                               -> sconto.wallet
    moves.py          to another merchant                        -> store.moves, issuer.py
    presentations.py  choose, present, link to a merchant        -> sconto.wallet, sconto.tokens
    savings.py        saved by month and promotion; statistics   -> sconto.wallet
    reports.py        events from hubs
    promises.py       frames' manifests and terms
    issuer.py         OpenID4VCI 1.0 and the hub's other routes
    vault.py          encryption at rest
"""

from collections.abc import Callable, Mapping

from sconto.servers import admin
from sconto.servers.app import Base, wall_clock_ms
from sconto.servers.config import Home
from sconto.servers.endpoint import Endpoint
from sconto.servers.exchange import Apply
from sconto.servers.wallet import (
    accounts,
    clips,
    moves,
    pages,
    presentations,
    reports,
    savings,
    tokens,
)
from sconto.servers.wallet.course import Turns
from sconto.servers.wallet.issuer import Issuer
from sconto.servers.wallet.promises import Promises
from sconto.servers.wallet.vault import Vault
from sconto.store import access
from sconto.store import wallet as store
from sconto.store.writer import Tx


class Wallet:
    """One wallet server, for one shopper or many."""

    endpoints: tuple[Endpoint, ...] = (
        *admin.ENDPOINTS,
        *accounts.ENDPOINTS,
        *clips.ENDPOINTS,
        *tokens.ENDPOINTS,
        *moves.ENDPOINTS,
        *presentations.ENDPOINTS,
        *savings.ENDPOINTS,
        *pages.ENDPOINTS,
    )
    event_handlers: Mapping[str, Apply] = {**reports.EVENT_HANDLERS, **moves.EVENT_HANDLERS}

    def __init__(self, home: Home, clock: Callable[[], int] = wall_clock_ms) -> None:
        self.base = Base(home, clock)
        self.vault = Vault(home.secret)
        self.promises = Promises(self.base)
        self.turns = Turns()
        self._issuers: dict[str, Issuer] = {}
        try:
            self._check_secret()
        except BaseException:
            self.base.close()
            raise

    async def start(self) -> None:
        await self.base.start()

    async def stop(self) -> None:
        await self.turns.close()
        await self.base.stop()

    def issuer(self, hub: str) -> Issuer:
        """A registered hub, as this wallet talks to it."""
        return self._issuers.setdefault(hub, Issuer(self.base, hub))

    def peer_added(self, tx: Tx, peer: access.Peer) -> None:
        """Hubs and merchants are asked when there is something to ask."""

    def _check_secret(self) -> None:
        """Refuse to serve accounts whose keys this home's secret does not open."""
        with self.base.store.read() as connection:
            some = store.any_account(connection)
        if some is not None:
            self.vault.holder_key(some.account_id, some.holder_seed)
