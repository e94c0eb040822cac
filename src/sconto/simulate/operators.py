"""What people do with servers beside shopping, and what is done wrongly, maliciously or too late.

Each seed draws some of `ACTS`, and perhaps one of `LOSSES`: a datastore is put back to an old
backup, with the new incarnation or epoch that belongs to it or without, or a merchant has helped
itself to units that it was not granted. All of it happens in rough weather.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import sqlalchemy as sa

from sconto.base.ids import ID_RANDOM_BYTES, new_id
from sconto.base.keys import SEED_BYTES, SigningKey
from sconto.servers.hub.incarnations import begin_epoch
from sconto.servers.merchant.restore import renew
from sconto.simulate.host import Host
from sconto.simulate.shoppers import Places, Reply, Shoppers
from sconto.simulate.stage import Stage
from sconto.store.schema import allotments

ACTS = ("top_up", "revoke", "write_off", "decline", "rotate")
LOSSES = ("restore_merchant", "restore_hub", "old_copy", "greedy")
#: An old copy reaches its hub, and knows what it is, within so many simulated seconds.
NOTICED_S = 120.0
_RECEIVED = "SELECT last_sequence FROM inbox_streams WHERE source = ?"
_SENT = "SELECT last_sequence FROM outbox_streams WHERE destination = ?"
#: Chances of each act, and of a loss, in a seed.
ACT, LOSS = 0.25, 0.25


class Operators:
    """The operators of all servers of a seed, and the brand."""

    def __init__(
        self,
        draw: Random,
        stage: Stage,
        places: Places,
        shoppers: Shoppers,
        at_least: tuple[str, ...] = (),
    ) -> None:
        self._draw = draw
        self._stage = stage
        self._places = places
        self._shoppers = shoppers
        self.chosen = [act for act in ACTS if draw.random() < ACT]
        if draw.random() < LOSS:
            self.chosen.append(draw.choice(LOSSES))
        self.chosen += [one for one in at_least if one in LOSSES and one not in self.chosen]

    async def run(self, during_s: float) -> None:
        """Do what was drawn, each at its own time."""
        acts = [self._later(getattr(self, f"_{act}"), during_s) for act in self.chosen]
        await asyncio.gather(*acts)

    async def _later(self, act: Callable[[], Awaitable[None]], during_s: float) -> None:
        await asyncio.sleep(self._draw.uniform(0, during_s))
        await act()

    # --- what is asked of servers ---------------------------------------------------------------

    async def _top_up(self) -> None:
        """A larger budget, once, however often it is asked for."""
        promotion_id = self._draw.choice(self._places.offers).promotion_id
        uses, minor = self._stage.auditor.raise_cap(promotion_id, 2, 260)
        added = {"top_up_id": "t1", "uses": uses, "amount_minor": minor}
        path = f"/v1/promotions/{promotion_id}/top-ups"
        reply = await self._insist(self._places.hub, path, added, self._places.brand_key)
        self._count("topped_up", reply)

    async def _revoke(self) -> None:
        """One of the tokens that shoppers hold ends."""
        if not self._shoppers.tokens:
            return
        path = f"/v1/tokens/{self._draw.choice(self._shoppers.tokens)}/revoke"
        reason = {"reason": "simulated"}
        reply = await self._insist(self._places.hub, path, reason, self._places.brand_key)
        self._count("revoked", reply)

    async def _write_off(self) -> None:
        """A merchant is believed to be lost, and is not."""
        shop = self._draw.choice(self._places.shops)
        path = f"/v1/merchants/{shop.name}/write-offs"
        reply = await self._insist(self._places.hub, path, {}, self._places.hub_key)
        self._count("wrote_off", reply)

    async def _decline(self) -> None:
        """A merchant takes part no longer, closes its parts, and sometimes comes back."""
        shop = self._draw.choice(self._places.shops)
        promotion_id = self._draw.choice(self._places.offers).promotion_id
        one = {"hub": self._places.hub, "promotion_ids": [promotion_id]}
        reply = await self._insist(shop.url, "/v1/acceptances", {**one, "accept": False}, shop.key)
        self._count("declined", reply)
        if self._draw.random() < 0.7:
            await asyncio.sleep(self._draw.uniform(0, 3))
            await self._insist(shop.url, "/v1/acceptances", one, shop.key)

    async def _insist(self, url: str, path: str, document: Any, key: str) -> Reply:
        return await self._shoppers.insist(self._draw, url, path, document, key)

    def _count(self, name: str, reply: Reply) -> None:
        if reply.status in (200, 201):
            self._stage.counts[name] += 1

    # --- what is done to servers ----------------------------------------------------------------

    async def _rotate(self) -> None:
        """A server signs with a new key from its next start on; the old one is still published."""
        host = await self._one_up(self._stage.hosts)
        if host is not None:
            new = SigningKey.from_seed(self._draw.randbytes(SEED_BYTES))
            host.home = replace(host.home, keys=(new, *host.home.keys))
            host.crash("rotation")

    async def _restore_merchant(self) -> None:
        """A disk is lost; an old backup becomes a new incarnation before it serves."""
        host = await self._one_up(self._merchants())
        if host is not None:
            await self._put_back(host, self._backup(host))
            self._renew(host)
            self._stage.counts["restored_merchant"] += 1

    async def _restore_hub(self) -> None:
        """The hub's disk is lost; an old backup begins a new epoch."""
        host = await self._one_up(self._stage.hosts[:1])
        if host is not None:
            await self._put_back(host, self._backup(host))
            self._renew(host)
            self._stage.counts["restored_hub"] += 1

    async def _old_copy(self) -> None:
        """Somebody puts an old copy of a merchant back and lets it serve; later it is restored.

        It must notice, where its hub has events that the copy does not know, and before it has
        told others under the same numbers; where it is started again before, it cannot know that.
        """
        host = await self._one_up(self._merchants())
        if host is None:
            return
        auditor, hub = self._stage.auditor, self._stage.hosts[0]
        auditor.suspects.add(host.url)  # until it hears of its hub it knows no better
        await self._put_back(host, self._backup(host))
        (at_hub,) = auditor.ask(hub, _RECEIVED, host.url) or [(0,)]
        (in_copy,) = auditor.ask(host, _SENT, hub.url) or [(0,)]
        life = host.start()
        self._stage.counts["old_copy"] += 1

        def has_noticed(copy: Host = host) -> bool:
            return copy.is_up and bool(copy.server.base.deliverer.alarms)

        if at_hub > in_copy:
            await self._stage.until(lambda: life.is_over or has_noticed(), NOTICED_S)
            if not life.is_over and not has_noticed():
                auditor.violated(f"{host.name} has not noticed that it is an old copy")
            self._stage.counts["old_copy_noticed"] += has_noticed()
        else:
            await asyncio.sleep(self._draw.uniform(0.5, 6))
            self._stage.counts["old_copy_of_all_that_was_told"] += 1
        host = await self._one_up([host])
        if host is not None:
            await self._put_back(host, None)
            self._renew(host)

    async def _greedy(self) -> None:
        """A merchant writes more units into its parts than it was granted."""
        host = await self._one_up(self._merchants())
        if host is None:
            return
        self._stage.auditor.suspects.add(host.url)

        def command(tx: Any) -> None:
            columns = allotments.c
            more = {name: columns[name] + 5 for name in ("granted_uses", "left_uses")}
            more |= {name: columns[name] + 5000 for name in ("granted_minor", "left_minor")}
            tx.write(sa.update(allotments).where(columns.state == "open").values(**more))

        host.run(host.server.base.store.write(command))
        self._stage.counts["greedy"] += 1

    def _merchants(self) -> list[Host]:
        return [host for host in self._stage.hosts if host.home.kind == "merchant"]

    async def _one_up(self, hosts: list[Host]) -> Host | None:
        """One of the hosts, once it is up."""
        host = self._draw.choice(hosts)
        for _ in range(100):
            if host.is_up:
                return host
            await asyncio.sleep(0.1)
        return None

    def _backup(self, host: Host) -> bytes:
        """Of now, or of the beginning."""
        return host.first_image if self._draw.random() < 0.6 else host.disk.image()

    async def _put_back(self, host: Host, image: bytes | None) -> None:
        """Let time pass; then stop the server and put an image on its disk, where one is given."""
        await asyncio.sleep(self._draw.uniform(0, 5))
        while not host.is_up:
            await asyncio.sleep(0.1)
        self._stage.auditor.before_loss(host)
        host.end()
        self._stage.network.crashed(host.name)
        self._stage.auditor.crashed(host)
        if image is not None:
            host.disk.write(image)
        self._stage.auditor.after_loss(host)

    def _renew(self, host: Host) -> None:
        """What `sconto hub|merchant restore` does, and the start that follows."""
        before = host.home.incarnation
        new = new_id(host.clock(), self._draw.randbytes(ID_RANDOM_BYTES))
        host.home = replace(host.home, incarnation=new)

        def begin(server: Any) -> None:
            server.base.store.write_now(lambda tx: begin_epoch(server, tx, before))

        host.offline(renew if host.home.kind == "merchant" else begin)
        host.start()
