"""A merchant's backlog drains in order, each report once, a batch at a time.

A million of them: `make bench-ledger ARGS="ingest --backlog 1000000"`, with two processes.
"""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from sconto.base.clock import day_of
from sconto.federation.events import BATCH_BYTES_MAX, BATCH_EVENTS_MAX
from sconto.federation.signatures import PROFILE_PATH
from sconto.ledger import Entry
from sconto.servers.exchange import Deliverer
from sconto.servers.peers import PeerClient
from sconto.store import Store, exchange, journal, migrate
from sconto.store.schema import budgets, outbox_streams
from sconto.store.writer import Tx

pytestmark = pytest.mark.anyio

HUB = "https://hub.example"
SHOP = "https://shop.example"
REPORTED = "sconto.journal.reported.v1"


class Wire(httpx.AsyncBaseTransport):
    """To the hub: counts what is under way, and loses the answers that `loses` names."""

    def __init__(self, to: httpx.AsyncBaseTransport, loses: set[int]) -> None:
        self.to, self.loses = to, loses
        self.requests = self.under_way = self.most = self.largest = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        number = self.requests
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.largest = max(self.largest, len(request.content))
        try:
            answer = await self.to.handle_async_request(request)
        finally:
            self.under_way -= 1
        if number in self.loses:
            raise httpx.ReadError("the answer is lost", request=request)
        return answer


async def test_a_backlog_drains_in_order_each_once(
    world: Any, till_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: order, once each, bounded memory. Method: lost answers, a sender that starts again."""
    is_sqlite = world.hub.base.home.database_url.startswith("sqlite")
    count = 20_000 if is_sqlite else 6_000
    till = await till_of(
        promotion_id="auto", access={"type": "automatic"}, limits=[{"uses": 4 * count}]
    )
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    migrate(url)
    now_ms = world.hub.base.clock()

    def open_store() -> Store:
        return Store(url, source=SHOP, clock=lambda: now_ms)

    def report(tx: Tx) -> None:
        tx.write(  # what `world` has sent before
            sa.insert(outbox_streams).values(
                destination=HUB, last_sequence=world.shop.sent, acked_sequence=world.shop.sent
            )
        )
        for number in range(count):
            entry = Entry(
                kind="redeemed",
                promotion_id="auto",
                merchant=SHOP,
                at_ms=now_ms,
                day=day_of(now_ms).isoformat(),
                terms_digest=world.digest_of(till.terms),
                order_id=f"o{number}",
                redemption_id=f"r{number}",
                allotment_id=till.allotment_id,
                amount_minor=3,
                currency="USD",
                is_direct=True,
            )
            tx.send(HUB, REPORTED, "auto", {"entry": entry, "receipt": "r" * 100})

    store = open_store()
    store.write_now(report)
    read: list[int] = []
    pending = exchange.pending

    def watched(connection: sa.Connection, destination: str, limit: int) -> Any:
        rows = pending(connection, destination, limit)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(exchange, "pending", watched)
    wire = Wire(world.client._transport, loses={2, 5})
    home: Any = SimpleNamespace(key=world.shop.key, profile_url=SHOP + PROFILE_PATH)

    async def send_until(acked: int) -> None:
        async with httpx.AsyncClient(transport=wire) as http:
            deliverer = Deliverer(store, PeerClient(home, http, world.hub.base.wall_clock))
            await deliverer.start()
            for _ in range(6000):
                with store.read() as connection:
                    if exchange.stream_to(connection, HUB).acked_sequence >= acked:
                        break
                await asyncio.sleep(0.01)
            else:
                raise AssertionError(f"the backlog does not drain: {deliverer.failures}")
            await deliverer.stop()

    last = world.shop.sent + count
    await send_until(world.shop.sent + count // 2)
    store.close()
    store = open_store()
    await send_until(last)
    store.close()

    assert max(read) <= BATCH_EVENTS_MAX
    assert wire.most == 1
    assert wire.largest <= BATCH_BYTES_MAX
    with world.hub.base.store.read() as connection:
        ids = [entry.redemption_id for _, entry in journal.entries(connection)]
        assert exchange.received(connection, SHOP) == last
    assert ids == [f"r{number}" for number in range(count)]
    assert world.column(budgets.c.spent_uses) == [count]
    assert world.totals().given_minor == 3 * count
    assert world.parked() == []
