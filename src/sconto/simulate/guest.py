"""Code under test in the simulation: a till, a shop, a wallet app of somebody else's.

A guest is a coroutine function. It lives on the simulated clock (`asyncio.sleep` takes no time) and
on the same bad network as the shoppers; it must use `draw` for chance, and nothing of the real
world. What it was promised it tells, and the merchant is held to it to the end.
"""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from sconto.simulate.auditor import Promise
from sconto.simulate.shoppers import Places, Reply, Shop, ask, said_of

if TYPE_CHECKING:
    from sconto.simulate.stage import Stage


class Guest:
    """What a guest has of the world."""

    def __init__(self, places: Places, draw: Random, stage: "Stage") -> None:
        #: Addresses and keys of the servers, accounts, shops and offers.
        self.places = places
        #: The only source of chance, so that a seed is the same again.
        self.draw = draw
        self._stage = stage

    async def ask(self, method: str, url: str, document: Any, key: str) -> Reply:
        """One request with an API key; raises httpx.HTTPError when no answer came."""
        return await ask(self._stage.network, method, url, document, key)

    def was_promised(self, shop: Shop, reply: Reply) -> None:
        """A merchant has answered that an order is redeemed: from now on this must stay so."""
        order_id = str(reply.json["order_id"])
        self._stage.auditor.promised(Promise(shop.url, order_id, said_of(reply)))


#: What `simulate(seed, guest=...)` runs.
Visit = Callable[[Guest], Awaitable[None]]
