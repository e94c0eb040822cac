"""How the network of a seed begins: its servers know each other, promotions run, shops are open.

Introducing servers takes longer than what a seed is about, so it is done once for each of `KINDS`
kinds of network, in calm weather, before the time of the seeds; a seed starts all servers anew from
copies of the disks. A kind is the same in every process: one to four merchants, one wallet server,
and one to three promotions of one or two brands, with caps of 1, 2, 3, 10 or a million uses, or in
money, and with limits that merchants share, by shopper or by token, in days that begin while it is
rough.
"""

from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any, NamedTuple

from sconto.base.errors import InvariantError
from sconto.frames import FrameOffer, build_frame, encode_bundle, frame_key
from sconto.servers.config import Home, create_home
from sconto.servers.principal import make_api_key
from sconto.simulate import outside
from sconto.simulate.host import START_MS, Host
from sconto.simulate.shoppers import Offer, Places, Shop, ask
from sconto.simulate.stage import Stage, disk_of
from sconto.store import access
from sconto.terms import terms_digest, terms_from

HUB = "https://hub.example"
WALLET = "https://wallet.example"
CAPS = (1, 2, 3, 10, 1_000_000)
#: How many different networks there are.
KINDS = 24
#: Simulated seconds before the time of the seeds.
BEFORE_S = 60.0


class Beginning(NamedTuple):
    """A network that stands still: what is on its disks, and what shoppers know of it."""

    homes: tuple[Home, ...]
    disks: tuple[bytes, ...]
    places: Places
    #: Of its promotions, as documents.
    terms: tuple[Mapping[str, Any], ...]


@cache
def beginning(kind: int) -> Beginning:
    """The network of a kind, made when it is first asked for."""
    return _Introduction(kind).make()


class _Introduction:
    """Makes one kind of network."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        draw = Random(f"beginning {kind}")
        self._shop_names = [f"shop{i}" for i in range(1, draw.randint(1, 4) + 1)]
        self._terms = tuple(_terms(i, draw) for i in range(1, draw.randint(1, 3) + 1))
        self._accounts = tuple(f"a{i}" for i in range(1, draw.randint(1, 6) + 1))
        self._bytes = draw.randbytes
        self._stage = Stage(f"beginning {kind}", self._terms, begins_s=-BEFORE_S)

    def make(self) -> Beginning:
        for name in ["hub", *self._shop_names, "wallet"]:
            self._stage.add(self._home(name), outside.blank_disk())
        self._stage.play(self._introduce)
        if self._stage.auditor.violations:
            raise InvariantError(f"beginning {self._kind}: {self._stage.auditor.violations}")
        hosts = self._stage.hosts
        homes = tuple(host.home for host in hosts)
        return Beginning(
            homes, tuple(host.disk.image() for host in hosts), self._places, self._terms
        )

    def _home(self, name: str) -> Home:
        return create_home(
            outside.folder() / f"kind{self._kind}" / name,
            kind=name if name in ("hub", "wallet") else "merchant",
            name=name,
            url=f"https://{name}.example",
            now_ms=START_MS,
            random=self._bytes,
            database_url=f"sqlite:///{disk_of(name)}",
            frames_url="https://frames.example" if name == "hub" else None,
        )

    async def _introduce(self) -> None:
        """Keys, peers, promotions, acceptances, frames and accounts."""
        hosts = self._stage.hosts
        for host in hosts:
            host.start()
        await self._stage.until(lambda: all(host.is_up for host in hosts), 10)
        hub, *shops, wallet = hosts
        keys = {host.name: await self._key(host, "operator", "admin") for host in hosts}
        for shop in shops:
            await self._meet(hub, shop, keys)
            await self._meet(shop, hub, keys)
            await self._meet(wallet, shop, keys)
        await self._meet(hub, wallet, keys)
        await self._meet(wallet, hub, keys)
        brand = await self._key(hub, "brand", "promotions:read", "promotions:write")
        for terms in self._terms:
            new = {"terms": terms, "launch": True}
            await self._ask("POST", f"{HUB}/v1/promotions", new, brand)
        await self._quiet()
        for shop in shops:
            asked = {"hub": HUB, "all": True}
            await self._ask("POST", f"{shop.url}/v1/acceptances", asked, keys[shop.name])
        accounts = {"account_ids": list(self._accounts)}
        await self._ask("POST", f"{WALLET}/v1/accounts/batch", accounts, keys["wallet"])
        self._places = Places(
            hub=HUB,
            wallet=WALLET,
            wallet_key=keys["wallet"],
            hub_key=keys["hub"],
            brand_key=brand,
            accounts=self._accounts,
            shops=tuple([await self._open_shop(shop, keys[shop.name]) for shop in shops]),
            offers=tuple(
                Offer(
                    t["promotion_id"],
                    f"brand{i}",
                    t["access"]["type"] == "token",
                    t["access"].get("code"),
                )
                for i, t in enumerate(self._terms, 1)
            ),
        )
        await self._quiet()

    async def _key(self, host: Host, tenant: str, *scopes: str) -> str:
        random = Random(f"{self._kind}/keys/{host.name}/{tenant}")

        def command(tx: Any) -> str:
            kind = tenant if tenant == "operator" else "brand"
            access.add_tenant(tx, tenant, kind, tenant)
            return make_api_key(tx, tenant, frozenset(scopes), "simulation", random.randbytes)

        return str(await host.run(host.server.base.store.write(command)))

    async def _meet(self, host: Host, peer: Host, keys: dict[str, str]) -> None:
        new = {"url": peer.url, "kind": peer.home.kind, "tenant_id": peer.name}
        await self._ask("POST", f"{host.url}/v1/peers", new, keys[host.name])

    async def _open_shop(self, shop: Host, key: str) -> Shop:
        offers = [
            FrameOffer(
                id=t["promotion_id"], promotion_id=t["promotion_id"], terms_digest=_digest(t)
            )
            for t in self._terms
            if t["access"]["type"] == "token"
        ]
        frame_id = ""
        if offers:
            frame = build_frame(
                shop.home.key,
                merchant=shop.url,
                hub=HUB,
                not_before_s=START_MS // 1000 - 3600,
                expires_s=START_MS // 1000 + 86_400,
                sequence=1,
                offers=offers,
                files={"index.html": b"<h1>Offers</h1>"},
            )
            path = f"/v1/frames/{frame_key(frame.frame_id)}"
            put = shop.server.base.client.call("PUT", HUB, path, body=encode_bundle(frame))
            await shop.run(put)
            frame_id = frame.frame_id
        return Shop(shop.name, shop.url, key, frame_id)

    async def _ask(self, method: str, url: str, document: Any, key: str) -> Any:
        reply = await ask(self._stage.network, method, url, document, key)
        if reply.status not in (200, 201):
            raise InvariantError(f"{method} {url} answered {reply}")
        return reply.json

    async def _quiet(self) -> None:
        if not await self._stage.until(lambda: self._stage.is_quiet, 40):
            raise InvariantError(f"no calm at the beginning: {self._stage.auditor.violations}")


def _terms(number: int, draw: Random) -> dict[str, Any]:
    """One unit of money off one brand, for everybody, for a code or for holders of a token."""
    cap = draw.choice(CAPS)
    in_money = draw.random() < 0.25
    access = draw.choice(["token", "token", "automatic", "code"])
    limits = [{"amount_minor": cap * 130} if in_money else {"uses": cap}]
    schedule = draw.choice([{"schedule": {"time_zone": "America/Los_Angeles"}}, {}])
    return {
        "promotion_id": f"promo{number}",
        "title": f"1.00 off brand {number}",
        "currency": "USD",
        "access": {"type": access, **({"code": f"SAVE{number}"} if access == "code" else {})},
        "benefits": [
            {
                "type": "amount_off",
                "amount_minor": 100,
                "items": {"include": [{"brands": [f"brand{number}"]}]},
            }
        ],
        "funding": {"shares": [{"party": f"brand{draw.randint(1, 2)}", "basis_points": 10_000}]},
        **schedule,
        "limits": limits + _more_limits(access, draw),
    }


def _more_limits(access: str, draw: Random) -> list[dict[str, Any]]:
    """Beside the cap: perhaps one that merchants share, one by shopper and one by token."""
    found: list[dict[str, Any]] = []
    few = draw.choice([1, 2, 3])
    if draw.random() < 0.5:
        by = draw.choice([{}, {"per": ["attribute"], "attribute": "region"}])
        if access == "code" and draw.random() < 0.5:
            by = {"per": ["code"]}
        most = draw.choice([{"uses": few}, {"uses": few}, {"amount_minor": few * 130}])
        period = {"period": "day"} if not by or draw.random() < 0.7 else {}
        found.append({**by, **most, **period})
    if draw.random() < 0.4:
        each = draw.choice([["merchant", "shopper"], ["shopper"]]) if access == "token" else None
        period = {} if access == "token" else {"period": "day"}
        found.append({"per": each or ["merchant", "shopper"], "uses": few, **period})
    if access == "token" and draw.random() < 0.5:
        found.append({"per": ["token"], "uses": 2})
    return found


def _digest(terms: dict[str, Any]) -> str:
    return str(terms_digest(terms_from(terms)))
