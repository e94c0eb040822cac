"""A hub and merchants as processes: reports coming in, a hub that is cut off, a cap used up.

In: how much of each. Out: figures. The servers are those of the demo, on SQLite.

1. *Ingest*: a backlog of reports of redemptions, each with its signed receipt, is put into a
   merchant's outbox; the hub's rows per second are those from its first to its last, with the
   merchant's reading, sending and signing, and all that the hub verifies and writes.
2. *Cut off*: the hub's process is stopped without a word (SIGSTOP), so that the merchant's
   connections hang as in a partition; in turn with the hub there. The pace is far below what the
   merchant can do.
3. *Utilisation*: all are online and sell until nobody gets the promotion any more.
"""

import asyncio
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import sqlalchemy as sa

from sconto.base.clock import day_of
from sconto.base.keys import sign_compact
from sconto.bench.figures import Figure, Options, at_most, say, within
from sconto.bench.load import Load, Outcome, Place, cpu_seconds, peak_mib, run
from sconto.demo.network import Network, Running, make_network
from sconto.ledger import Entry
from sconto.redemption import RECEIPT_TYPE
from sconto.servers.config import load_home
from sconto.servers.merchant import Merchant
from sconto.store import books, exchange, ledger
from sconto.store.database import open_engine
from sconto.store.schema import budgets, inbox_streams
from sconto.store.writer import Tx
from sconto.terms import Terms, terms_digest, terms_from

INGEST_TARGET = 20_000.0
#: Rows per second below which it is given up.
INGEST_LEAST = 500.0
#: Times the latency with the hub there: "unchanged", as far as a median can tell.
CUT_OFF_TARGET = 1.1
SETTLED_TARGET_S = 30.0
UTILISATION_TARGET = 99.5
#: Redemptions per second while the hub is cut off.
PACE = 200.0
ENDLESS = 10**12
#: Seconds to wait for what must come.
WAIT_S = 600.0
#: A cap counts as used up when nobody got anything for so long (seconds).
QUIET_S = 35.0


def hot(uses: int = ENDLESS) -> Terms:
    """A promotion that applies to every cart, at most so often."""
    dearest = {"quantity": 1, "choose": "dearest"}
    return terms_from(
        {
            "promotion_id": "hot",
            "title": "5 % off the dearest item",
            "currency": "USD",
            "benefits": [{"type": "percent_off", "basis_points": 500, "pick": dearest}],
            "limits": [{"uses": uses}],
        },
        what="terms",
        field="",
    )


def ingest(backlog: int) -> Iterator[Figure]:
    """Rows that one hub process applies in a second, of one merchant's stream."""
    yield from asyncio.run(_ingest(backlog))


def cut_off(options: Options, carts: tuple[str, ...]) -> Iterator[Figure]:
    """Latency of redemptions with the hub and without, and how soon all of them are settled."""
    yield from asyncio.run(_cut_off(options, carts))


def utilisation(options: Options, carts: tuple[str, ...], cap: int) -> Iterator[Figure]:
    """How much of a cap three merchants use, who are all online."""
    yield from asyncio.run(_utilisation(options, carts, cap))


async def _ingest(backlog: int) -> list[Figure]:
    async with _network(1, hot()) as network:
        hub, merchant = network.hub, network.merchants[0]
        merchant.stop()
        say(f"Putting {backlog:,} reports into an outbox ...")
        await asyncio.to_thread(_report, merchant, network.hub.url, backlog)
        engine = open_engine(load_home(hub.home).database_url, read_only=True)
        begun, first = await _received(engine, merchant.url), time.perf_counter()
        last = begun + backlog
        cpu = cpu_seconds(_pid(hub)) or 0.0
        merchant.start()
        until = time.monotonic() + WAIT_S + backlog / INGEST_LEAST
        now = begun
        while now < last:
            if time.monotonic() > until:
                raise RuntimeError(f"the hub has only {now - begun} of {backlog} reports")
            await asyncio.sleep(0.02)
            if now == begun:
                first = time.perf_counter()
            now = await _received(engine, merchant.url)
        seconds = time.perf_counter() - first
        cpu = (cpu_seconds(_pid(hub)) or 0.0) - cpu
        peaks = {"hub": peak_mib(_pid(hub)), "merchant": peak_mib(_pid(merchant))}
        spent = await _spent(engine)
        with engine.connect() as connection:
            faults = books.check(connection).faults
        engine.dispose()
        if faults:
            raise RuntimeError(f"the hub's books do not balance: {faults[0]}")
        if spent != backlog:
            raise RuntimeError(f"the hub settled {spent} of {backlog} reported redemptions")
    rows = backlog / seconds
    return [
        Figure(
            bench="hub_ingest",
            value=round(rows, 1),
            unit="rows/s",
            target=INGEST_TARGET,
            holds=rows >= INGEST_TARGET,
        ),
        Figure(bench="hub_ingest_cpu", value=round(cpu / backlog * 1e6, 1), unit="us/row"),
        *(
            Figure(bench=f"hub_ingest_{name}_memory", value=round(peak or 0.0, 1), unit="MiB")
            for name, peak in peaks.items()
        ),
    ]


def _report(running: Running, hub: str, count: int) -> None:
    """What so many direct redemptions would have put into the outbox."""
    merchant = Merchant(load_home(running.home, "merchant"))
    home = merchant.base.home
    digest = terms_digest(hot())
    try:
        with merchant.base.store.read() as connection:
            part = ledger.available(connection, home.url, ["hot"])["hot"][0]

        def command(numbers: range, tx: Tx) -> None:
            for number in numbers:
                entry = Entry(
                    kind="redeemed",
                    promotion_id="hot",
                    merchant=home.url,
                    at_ms=tx.now_ms,
                    day=day_of(tx.now_ms, "UTC").isoformat(),
                    terms_digest=digest,
                    order_id=f"backlog-{number}",
                    redemption_id=secrets.token_urlsafe(18),
                    allotment_id=part.allotment_id,
                    amount_minor=50,
                    currency="USD",
                    is_direct=True,
                )
                claims = {
                    "iss": home.url,
                    "iat": tx.now_ms // 1000,
                    "order_id": entry.order_id,
                    "redemptions": [{"redemption_id": entry.redemption_id, "amount_minor": 50}],
                }
                receipt = sign_compact(home.key, RECEIPT_TYPE, claims)
                data = {"entry": entry, "receipt": receipt}
                tx.send(hub, "sconto.journal.reported.v1", "hot", data)

        for start in range(0, count, 1000):
            numbers = range(start, min(start + 1000, count))
            merchant.base.store.write_now(partial(command, numbers))
    finally:
        merchant.base.close()


async def _cut_off(options: Options, carts: tuple[str, ...]) -> list[Figure]:
    async with _network(1, hot()) as network:
        hub, merchant = network.hub, network.merchants[0]
        place = _place(merchant)
        pairs: list[tuple[Outcome, Outcome]] = []
        settled: list[float] = []
        engine = open_engine(load_home(hub.home).database_url, read_only=True)
        ours = open_engine(load_home(merchant.home).database_url, read_only=True)
        for number in range(options.rounds):
            there = await _redeem(place, carts, options, PACE)
            await _all_settled(ours, hub.url)
            _signal(hub, signal.SIGSTOP)
            try:
                away = await _redeem(place, carts, options, PACE)
            finally:
                _signal(hub, signal.SIGCONT)
            begin = time.perf_counter()
            await _all_settled(ours, hub.url)
            settled.append(time.perf_counter() - begin)
            pairs.append((there, away))
            say(
                f"round {number + 1}: with the hub p50 {there.p50_ms:.1f} p99 {there.p99_ms:.1f} "
                f"ms; cut off p50 {away.p50_ms:.1f} p99 {away.p99_ms:.1f} ms; "
                f"settled after {settled[-1]:.1f} s"
            )
        spent, sold = await _spent(engine), sum(a.all_requests + b.all_requests for a, b in pairs)
        engine.dispose()
        ours.dispose()
        if spent != sold:
            raise RuntimeError(f"{sold} redemptions were acknowledged, the hub settled {spent}")
    figures = []
    for percent in (50, 99):
        name = f"redeem_p{percent}"
        there_ms = [_ms(there, percent) for there, _ in pairs]
        away_ms = [_ms(away, percent) for _, away in pairs]
        figures += [
            at_most(f"{name}_with_the_hub", median(there_ms), "ms", target=None),
            within(
                f"{name}_cut_off",
                median(away_ms),
                "ms",
                ratio=median(b / a for a, b in zip(there_ms, away_ms, strict=True)),
                ratio_to=f"{name}_with_the_hub",
                target=CUT_OFF_TARGET if percent == 50 else None,
            ),
        ]
    return [*figures, at_most("settled_after_healing", max(settled), "s", target=SETTLED_TARGET_S)]


async def _utilisation(options: Options, carts: tuple[str, ...], cap: int) -> list[Figure]:
    async with _network(3, hot(cap)) as network:
        engine = open_engine(load_home(network.hub.home).database_url, read_only=True)
        begin = changed = time.perf_counter()
        used = 0
        while used < cap and time.perf_counter() - changed < QUIET_S:
            await asyncio.gather(
                *(_redeem(_place(one), carts, options, None) for one in network.merchants)
            )
            now = await _spent(engine)
            if now != used:
                used, changed = now, time.perf_counter()
            say(f"{used:,} of {cap:,} used after {time.perf_counter() - begin:.0f} s")
        await network.wait_delivered()
        used = await _spent(engine)
        engine.dispose()
    percent = used / cap * 100
    return [
        Figure(
            bench="utilisation",
            value=round(percent, 2),
            unit="%",
            target=UTILISATION_TARGET,
            holds=percent >= UTILISATION_TARGET and used <= cap,
        )
    ]


@asynccontextmanager
async def _network(merchants: int, terms: Terms) -> AsyncIterator[Network]:
    """Servers that know each other, and the promotion at all merchants, with a part of it."""
    with tempfile.TemporaryDirectory(prefix="sconto-bench-") as scratch:
        network = make_network(Path(scratch), merchants)
        try:
            await network.start()
            await network.hub_client.add_tenant("brand", "brand", "Brand")
            await network.hub_client.add_promotion(terms, launch=True, tenant_id="brand")
            await network.wait_delivered()
            for one in network.merchant_clients:
                await one.accept(network.hub.url, all_of_them=True)
            await network.wait_delivered()
            yield network
        finally:
            await network.stop()


async def _redeem(
    place: Place, carts: tuple[str, ...], options: Options, rate: float | None
) -> Outcome:
    load = Load(
        place=place,
        path="/v1/redemptions",
        carts=carts,
        order_prefix=secrets.token_hex(4),
        status=201,
        connections=options.connections if rate else 16,
        seconds=options.seconds,
        rate=rate,
    )
    outcome, _ = await asyncio.to_thread(run, load, 0)
    return outcome


async def _all_settled(ours: sa.Engine, hub: str) -> None:
    """Wait until the hub has acknowledged every event of the merchant."""
    until = time.monotonic() + WAIT_S
    while True:
        with ours.connect() as connection:
            stream = exchange.stream_to(connection, hub)
        waiting = stream.last_sequence - stream.acked_sequence
        if not waiting:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"{waiting} reports are not settled")
        await asyncio.sleep(0.02)


async def _received(engine: sa.Engine, merchant: str) -> int:
    """How far a merchant's stream has come at the hub."""
    query = sa.select(inbox_streams.c.last_sequence).where(inbox_streams.c.source == merchant)
    with engine.connect() as connection:
        return connection.execute(query).scalar() or 0


async def _spent(engine: sa.Engine) -> int:
    """Uses of the promotion that the hub has settled."""
    with engine.connect() as connection:
        return int(connection.execute(sa.select(budgets.c.spent_uses)).scalar_one())


def _ms(outcome: Outcome, percent: int) -> float:
    return outcome.p50_ms if percent == 50 else outcome.p99_ms


def _place(server: Running) -> Place:
    parts = urlsplit(server.url)
    return Place(host=str(parts.hostname), port=int(parts.port or 0), api_key=server.api_key)


def _pid(server: Running) -> int:
    return server.process.pid if server.process is not None else 0


def _signal(server: Running, number: signal.Signals) -> None:
    if server.process is not None:
        server.process.send_signal(number)
