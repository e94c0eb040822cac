"""Buyers: each sends an order, again and again until it is answered, then the next one."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Self

import httpx
import msgspec

from sconto.base.errors import UnavailableError
from sconto.torture.observer import Observer, Request, read_answer
from sconto.torture.outcome import say
from sconto.torture.places import CODE, Place

#: Seconds for one answer, and until a request without one is sent again.
ANSWER_S = 15.0
AGAIN_S = 0.05
#: Seconds in which everything must be answered once all servers stand.
SETTLE_S = 60.0
#: Part of the orders that are reversed, and that have too few items for the promotion.
REVERSED = 0.1
TOO_SMALL = 0.14
#: Acknowledged requests that are repeated at the end of a trial.
REPEATED_MAX = 400


class Load:
    """Buyers at some merchants, in the background until they are told to stop."""

    def __init__(
        self, observer: Observer, shops: Sequence[Place], *, buyers: int = 6, seed: int = 1
    ) -> None:
        self.observer = observer
        self.shops = shops
        #: Merchants that will never answer again.
        self.gone: set[int] = set()
        #: (when it was answered, seconds since it was first sent), by the clock of the event loop.
        self.times: list[tuple[float, float]] = []
        self._random = random.Random(seed)
        self._numbers = count()
        self._buyers = buyers
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._http: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        self._http = [
            httpx.AsyncClient(
                base_url=shop.address,
                headers={
                    "Authorization": f"Bearer {shop.api_key}",
                    "Content-Type": "application/json",
                },
                timeout=ANSWER_S,
                trust_env=False,
            )
            for shop in self.shops
        ]
        self._tasks = [asyncio.create_task(self._buy(i)) for i in range(self._buyers)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._http:
            await client.aclose()

    async def acknowledges(self, more: int, timeout_s: float = SETTLE_S) -> None:
        """Wait until so many more requests are acknowledged.

        Raises UnavailableError when they are not.
        """
        goal = len(self.observer.acknowledged) + more
        deadline = asyncio.get_running_loop().time() + timeout_s
        while len(self.observer.acknowledged) < goal:
            self._look_at_buyers()
            if asyncio.get_running_loop().time() > deadline:
                raise UnavailableError("nothing is acknowledged any more")
            await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """No new orders; wait until every request of the past is answered.

        Raises UnavailableError when that does not happen.
        """
        self._over.set()
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while any(one.shop not in self.gone for one in self.observer.unknown.values()):
            self._look_at_buyers()
            if asyncio.get_running_loop().time() > deadline:
                raise UnavailableError(f"{len(self.observer.unknown)} requests get no answer")
            await asyncio.sleep(0.02)

    async def repeat(self) -> int:
        """Send requests that were acknowledged again; how many are answered otherwise now."""
        known = [
            pair
            for pair in self.observer.acknowledged.values()
            if pair[0].id not in self.observer.touched and pair[0].shop not in self.gone
        ]
        changed = 0
        for request, before in self._random.sample(known, min(len(known), REPEATED_MAX)):
            answer = await self._http[request.shop].post(request.path, content=request.body)
            now = read_answer(answer.status_code, answer.content)
            if (now.status, now.digest) != (before.status, before.digest):
                changed += 1
                say(f"answered otherwise: {request}: {before}; now {now}")
        return changed

    def _look_at_buyers(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _buy(self, number: int) -> None:
        while not self._over.is_set():
            shops = [i for i in range(len(self.shops)) if i not in self.gone]
            request = self._order(shops[(number + next(self._numbers)) % len(shops)])
            await self._insist(request)
            is_sold = request.id in self.observer.acknowledged
            if is_sold and not self._over.is_set() and self._random.random() < REVERSED:
                await self._insist(_reversal(request))

    def _order(self, shop: int) -> Request:
        order_id = f"o-{next(self._numbers)}"
        quantity = 1 if self._random.random() < TOO_SMALL else 2
        lines = [{"id": "1", "sku": "a", "quantity": quantity, "price_minor": 500}]
        cart = {"currency": "USD", "lines": lines, "codes": [CODE]}
        body = msgspec.json.encode({"order_id": order_id, "cart": cart})
        return Request(order_id, shop, "/v1/redemptions", body)

    async def _insist(self, request: Request) -> None:
        """Send until there is an answer for good, or the merchant is gone."""
        await self.observer.sends(request)
        loop = asyncio.get_running_loop()
        start = loop.time()
        while request.shop not in self.gone:
            with suppress(httpx.HTTPError):
                answer = await self._http[request.shop].post(request.path, content=request.body)
                if await self.observer.hears(request, answer.status_code, answer.content):
                    self.times.append((loop.time(), loop.time() - start))
                    return
            await asyncio.sleep(AGAIN_S)


def _reversal(order: Request) -> Request:
    reversal_id = f"r-{order.id}"
    body = msgspec.json.encode({"reversal_id": reversal_id})
    path = f"/v1/orders/{order.id}/reversals"
    return Request(reversal_id, order.shop, path, body, reverses=order.id)
