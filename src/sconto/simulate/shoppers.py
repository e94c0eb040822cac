"""The workload: shoppers clip, present, move, reserve, redeem and return, and insist on an answer.

A shopper makes the ids and keeps them, so that a repeated request is the same operation. What a
merchant has acknowledged is a promise that the auditor holds it to; a reply to a repeated request
must say the same.
"""

import asyncio
import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from sconto.simulate.auditor import Promise
from sconto.simulate.network import Network, Request

if TYPE_CHECKING:
    from sconto.simulate.stage import Stage

#: How often a shopper repeats a request that got no answer, with up to `PAUSE_S` in between.
TRIES_MAX = 40
PAUSE_S = 3.0
AGAIN = frozenset({429, 502, 503, 507})


class Reply(NamedTuple):
    status: int
    json: Any

    @property
    def code(self) -> str:
        return str(self.json.get("code", "")) if isinstance(self.json, dict) else ""


@dataclass(frozen=True)
class Offer:
    """A promotion of the hub: what a cart must have in it, and who may use it."""

    promotion_id: str
    brand: str
    is_token: bool
    code: str | None = None


@dataclass(frozen=True)
class Shop:
    """A merchant, the key of its till, and the frame that it shows its offers in."""

    name: str
    url: str
    key: str
    frame_id: str


@dataclass(frozen=True)
class Places:
    """What shoppers know of the network."""

    hub: str
    wallet: str
    wallet_key: str
    #: Of the hub's operator, and of the brand that the promotions are of.
    hub_key: str
    brand_key: str
    accounts: tuple[str, ...]
    shops: tuple[Shop, ...]
    offers: tuple[Offer, ...]


class Shoppers:
    """All shoppers of one world."""

    def __init__(self, workload: Random, stage: "Stage", places: Places) -> None:
        self._workload = workload
        self._network = stage.network
        self._places = places
        self._auditor = stage.auditor
        self._counts = stage.counts
        self._orders = 0
        #: Ids of the tokens that were clipped.
        self.tokens: list[str] = []

    async def run(self, visits: int, during_s: float) -> None:
        """So many visits, spread over the time."""
        draw = self._workload
        plans = sorted(draw.uniform(0, during_s) for _ in range(visits))
        await asyncio.gather(*(self._visit(after_s, Random(draw.random())) for after_s in plans))

    async def _visit(self, after_s: float, draw: Random) -> None:
        await asyncio.sleep(after_s)
        offer = draw.choice(self._places.offers)
        shop = draw.choice(self._places.shops)
        if not offer.is_token:
            account = draw.choice(self._places.accounts)
            for _ in range(draw.choice([1, 1, 2, 3])):  # who comes again meets a limit by shopper
                await self._check_out(draw, shop, offer, account, None)
            return
        account = draw.choice(self._places.accounts)
        token = await self._clip(draw, account, shop, offer)
        if token is None:
            return
        other = draw.choice(self._places.shops)
        orders = [self._check_out(draw, shop, offer, account, token)]
        if draw.random() < 0.3:  # the same token twice at once
            orders.append(self._check_out(draw, shop, offer, account, token))
        if other is not shop and draw.random() < 0.5:
            orders.append(self._check_out(draw, other, offer, account, token, is_wrong=True))
        if other is not shop and draw.random() < 0.4:
            orders.append(self._move(draw, shop, other, offer, account, token))
            orders.append(self._check_out(draw, shop, offer, account, token, waits_s=6))
        await asyncio.gather(*orders)
        if draw.random() < 0.2:  # again, after it was perhaps taken back
            await self._check_out(draw, shop, offer, account, token)

    async def _clip(self, draw: Random, account: str, shop: Shop, offer: Offer) -> str | None:
        clip = {
            "clip_id": f"clip-{draw.getrandbits(40):x}",
            "hub": self._places.hub,
            "frame_id": shop.frame_id,
            "promotion_id": offer.promotion_id,
            "account_id": account,
        }
        reply = await self.insist(draw, self._places.wallet, "/v1/clips", clip, self._wallet_key)
        self._counts[f"clip_{reply.status}"] += 1
        self._counts["shopper_limited"] += "shopper_limit_reached" in str(reply.json)
        if reply.status != 201:
            return None
        self.tokens.append(str(reply.json["token_id"]))
        return self.tokens[-1]

    async def _move(
        self, draw: Random, shop: Shop, other: Shop, offer: Offer, account: str, token: str
    ) -> None:
        """Have a token at another merchant, and use it there; sometimes that was in vain."""
        await asyncio.sleep(draw.uniform(0, 2))
        move = {"move_id": f"m-{token}", "merchant": other.url, "account_id": account}
        path = f"/v1/tokens/{token}/moves"
        reply = Reply(0, {})
        for _ in range(TRIES_MAX):
            reply = await self.insist(draw, self._places.wallet, path, move, self._wallet_key)
            if reply.status != 200 or reply.json["state"] != "pending":
                break
            await asyncio.sleep(draw.uniform(0.2, PAUSE_S))
        self._counts[f"move_{reply.status}"] += 1
        if reply.status != 200 or reply.json["state"] != "moved":
            return
        successor = str(reply.json["successor_id"])
        self.tokens.append(successor)
        await self._check_out(draw, other, offer, account, successor)
        if draw.random() < 0.3:  # and back again, or as often as it has uses
            await self._check_out(draw, other, offer, account, successor)
            await self._move(draw, other, shop, offer, account, successor)

    @property
    def _wallet_key(self) -> str:
        return self._places.wallet_key

    async def _check_out(
        self,
        draw: Random,
        shop: Shop,
        offer: Offer,
        account: str | None,
        token: str | None,
        *,
        is_wrong: bool = False,
        waits_s: float = 0,
    ) -> None:
        """One order. With `waits_s` a token is presented some time after the proof was made."""
        self._orders += 1
        order_id = f"o-{self._orders}"
        way = draw.choice(["direct", "direct", "redeem", "release", "abandon"])
        path = "/v1/redemptions" if way == "direct" else "/v1/reservations"
        order: dict[str, Any] = {
            "order_id": order_id,
            "cart": {
                "currency": "USD",
                "lines": [
                    {
                        "id": "1",
                        "sku": "x",
                        "brand": offer.brand,
                        "price_minor": draw.randint(150, 900),
                        "quantity": draw.choice([1, 1, 2]),
                    }
                ],
                "codes": [offer.code] if offer.code else [],
                "attributes": {"region": draw.choice(["north", "south"])},
            },
            "ttl_s": draw.choice([2, 4, 8]),
        }
        if token is None:
            order["client"] = account
        else:
            shown = await self._present(draw, account, token, order_id, path)
            if shown is None:
                return
            order["presented"] = [shown]
            await asyncio.sleep(draw.uniform(0, waits_s))
            self._counts["presented_elsewhere"] += is_wrong
        reply = await self.insist(draw, shop.url, path, order, shop.key)
        self._counts[f"{way}_{reply.status}"] += 1
        if reply.status != 201:
            return
        for refused in reply.json["evaluation"]["refused"]:
            self._counts[f"told_{refused['code']}"] += 1
        if is_wrong and any(one.get("token_id") for one in reply.json["redemptions"]):
            self._auditor.violated(f"{shop.name} has taken a token of another merchant")
        if way == "direct":
            self._promised(shop, reply)
        elif way in ("redeem", "release"):
            await asyncio.sleep(draw.uniform(0, 4))
            after = f"/v1/reservations/{order_id}/{way}"
            reply = await self.insist(draw, shop.url, after, None, shop.key)
            self._counts[f"{way}_then_{reply.status}"] += 1
            if way == "redeem" and reply.status == 200:
                self._promised(shop, reply)
        if draw.random() < 0.3 and way == "direct":  # a till that has lost the answer
            again = await self.insist(draw, shop.url, path, order, shop.key)
            is_same = again.status == 201 and said_of(again) == said_of(reply)
            if not is_same and shop.url not in self._auditor.lost:
                self._auditor.violated(f"{order_id} was repeated and got {again}, not {reply}")
            self._counts["repeated"] += 1
        if order_id in self._auditor.promises and draw.random() < 0.4:
            await self._bring_back(draw, shop, order_id, int(order["cart"]["lines"][0]["quantity"]))

    async def _present(
        self, draw: Random, account: str | None, token: str, order_id: str, path: str
    ) -> dict[str, str] | None:
        wanted = {"token_id": token, "order_id": order_id, "account_id": account, "path": path}
        wallet = self._places.wallet
        reply = await self.insist(draw, wallet, "/v1/presentations", wanted, self._wallet_key)
        if reply.status != 201:
            self._counts[f"present_{reply.status}"] += 1
            return None
        return {"token": reply.json["token"], "proof": reply.json["proof"]}

    async def _bring_back(self, draw: Random, shop: Shop, order_id: str, quantity: int) -> None:
        await asyncio.sleep(draw.uniform(0, 3))
        back: dict[str, Any] = {"reversal_id": f"r-{order_id}"}
        if quantity > 1 and draw.random() < 0.5:
            back["lines"] = [{"line_id": "1", "quantity": 1}]
        path = f"/v1/orders/{order_id}/reversals"
        reply = await self.insist(draw, shop.url, path, back, shop.key)
        self._counts[f"reversed_{reply.status}"] += 1
        if reply.status not in (201, 0) and shop.url not in self._auditor.lost:
            self._auditor.violated(f"the return r-{order_id} was answered {reply}")

    def _promised(self, shop: Shop, reply: Reply) -> None:
        said = reply.json
        if said["redemptions"] and not said.get("receipt"):
            self._auditor.violated(f"{said['order_id']} was redeemed without a receipt")
        self._auditor.promised(Promise(shop.url, said["order_id"], said_of(reply)))

    async def insist(self, draw: Random, url: str, path: str, document: Any, key: str) -> Reply:
        """Ask until there is an answer; the same request each time."""
        for _ in range(TRIES_MAX):
            try:
                reply = await ask(self._network, "POST", url + path, document, key)
            except httpx.HTTPError:
                self._counts["shopper_without_answer"] += 1
            else:
                if reply.status not in AGAIN:
                    return reply
            await asyncio.sleep(draw.uniform(0.2, PAUSE_S))
        return Reply(0, {})


async def ask(network: Network, method: str, url: str, document: Any, key: str) -> Reply:
    """One request with an API key. Raises httpx.HTTPError when no answer came."""
    headers = {"Authorization": f"Bearer {key}"}
    content = b""
    if document is not None:
        content = json.dumps(document).encode()
        headers["Content-Type"] = "application/json"
    answer = await network.send(Request.of(method, url, headers, content))
    return Reply(answer.status_code, json.loads(answer.content) if answer.content else None)


def said_of(reply: Reply) -> tuple[tuple[str, int], ...]:
    """What was redeemed, by redemption; later reversals do not change it."""
    return tuple(
        sorted((str(o["redemption_id"]), int(o["amount_minor"])) for o in reply.json["redemptions"])
    )
