"""Reports of a batch are applied together: the datastore is as if each had been applied alone.

The oracle is `row_by_row.py`, one report at a time with its own questions and changes. A random
stream has duplicates, reversals, unknown, closed and written-off parts, more than was granted,
wrong tokens, parts of limits that merchants share, poison and what is not strict JSON; it is cut
anywhere, sent twice, or with a gap.
"""

import asyncio
import itertools
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from sconto.base.clock import day_of
from sconto.ledger import UNLIMITED, Amounts, Entry
from sconto.servers import exchange as receiving
from sconto.servers.config import create_home
from sconto.servers.hub import Hub
from sconto.servers.hub.reports import report_of
from sconto.store import Store, access, books, ledger, migrate, offers, promotions
from sconto.store.reports import Reports
from sconto.store.schema import metadata, tokens, transfers
from sconto.store.writer import Tx
from sconto.terms import encode_terms, terms_digest, terms_from

from . import row_by_row
from .conftest import World

HUB = "https://hub.example"
SHOP = "https://shop.example"
OTHER = "https://other.example"
WALLET = "https://wallet.example"
NOW_MS = 1_790_000_000_000
REPORTED = "sconto.journal.reported.v1"
CLOSED = "sconto.allotment.closed.v1"


def _terms(promotion_id: str, **changes: Any) -> Any:
    return terms_from(World.terms_of(promotion_id, **{"limits": [{"uses": 1000}], **changes}))


TERMS = {
    terms.promotion_id: terms
    for terms in (
        _terms("once"),
        _terms("twice", limits=[{"per": ["token"], "uses": 2}, {"uses": 1000}]),
        _terms("auto", access={"type": "automatic"}, schedule={"time_zone": "Asia/Tokyo"}),
        _terms("daily", access={"type": "automatic"}, limits=[{"uses": 1000, "period": "day"}]),
        _terms("broken"),  # our own mistake shows with its entries
    )
}
DIGESTS = {promotion_id: terms_digest(terms) for promotion_id, terms in TERMS.items()}


def _id(name: str) -> str:
    return name.upper().replace("-", "").ljust(26, "0")


#: Parts of each promotion: what is left of them, and what became of them.
PARTS = {
    "big": (1000, 10**6),
    "small": (2, 300),
    "gone": (5, 500),
    "shut": (5, 500),
    "old": (5, 500),
}
#: Parts of counters: of the day, of another day, and one with little left.
DAY = day_of(NOW_MS).isoformat()
COUNTED = {
    "day": (f"day:{DAY}", (1000, 10**6)),
    "narrow": (f"day:{DAY}", (2, 300)),
    "past": ("day:2001-01-01", (5, 500)),
}
TOKENS = [_id(f"{promotion_id}-{n}") for promotion_id in ("once", "twice") for n in range(4)]
ODD_TOKENS = [_id(name) for name in ("offered", "foreign", "late", "nobody")]


def _prepare(tx: Tx) -> None:
    for tenant_id, kind in (("brand", "brand"), ("shop", "merchant"), ("wallet", "wallet")):
        access.add_tenant(tx, tenant_id, kind, tenant_id)
    access.add_peer(tx, SHOP, "merchant", "shop", frozenset())
    for token_id in [*TOKENS, *ODD_TOKENS]:
        promotion_id = "twice" if token_id.startswith("TWICE") else "once"
        tx.write(
            sa.insert(tokens).values(
                token_id=token_id,
                clip_id=token_id,
                promotion_id=promotion_id,
                terms_digest=DIGESTS[promotion_id],
                frame_id="f",
                hub=HUB,
                merchant=OTHER if token_id == _id("foreign") else SHOP,
                wallet=None if token_id == _id("nobody") else WALLET,
                status="offered" if token_id == _id("offered") else "issued",
                jws=None if token_id == _id("offered") else "a.b.c",
                clipped_at_ms=1,
                expires_at_ms=NOW_MS - 10**9 if token_id == _id("late") else NOW_MS + 10**9,
            )
        )
    for promotion_id, terms in TERMS.items():
        version = promotions.Version(
            promotion_id, 1, DIGESTS[promotion_id], encode_terms(terms), "signature"
        )
        promotions.save(
            tx, version, tenant_id="brand", hub=None, status="active", is_accepted=False
        )
        offers.accept(tx, promotion_id, SHOP)
        cap = Amounts(10_000, UNLIMITED)
        ledger.open_budget(tx, promotion_id, cap, "test")
        for name, size in PARTS.items():
            holder = OTHER if name == "foreign" else SHOP
            part = ledger.grant(
                tx,
                _id(f"{promotion_id}-{name}"),
                promotion_id,
                holder=holder,
                incarnation="I",
                needed=Amounts(*size),
                holders=10**6,
                epoch="old" if name == "old" else "",
            )
            assert isinstance(part, ledger.Allotment)
            if name == "gone":
                ledger.write_off(tx, part.allotment_id)
            elif name in ("shut", "old"):
                _redeemed_before(tx, part)
                ledger.reclaim(tx, part.allotment_id)
    for name, (counter, size) in COUNTED.items():
        if name != "narrow":
            ledger.open_budget(tx, "daily", Amounts(2000, UNLIMITED), "test", counter=counter)
        ledger.grant(
            tx,
            _id(f"daily-{name}"),
            "daily",
            holder=SHOP,
            incarnation="I",
            needed=Amounts(*size),
            holders=10**6,
            counter=counter,
        )


def _redeemed_before(tx: Tx, part: ledger.Allotment) -> None:
    """A redemption that can be reversed when its part is closed."""
    number = 11 if part.allotment_id == _id(f"{part.promotion_id}-shut") else 12
    is_automatic = part.promotion_id in ("auto", "daily", "broken")
    entry = Entry(
        kind="redeemed",
        promotion_id=part.promotion_id,
        merchant=SHOP,
        at_ms=NOW_MS,
        day="",
        terms_digest=DIGESTS[part.promotion_id],
        token_id="" if is_automatic else _id(f"{part.promotion_id}-{number - 9}"),
        order_id=f"o{number}",
        redemption_id=f"{part.promotion_id}-r{number}",
        allotment_id=part.allotment_id,
        amount_minor=100,
        currency="USD",
    )
    known = Reports(tx, [entry], "")
    assert known.parts.settle(part.allotment_id, Amounts(1, 100), entry.redemption_id)
    known.put(report_of(entry, "redeemed", None, None if is_automatic else 1))
    known.write()


# --- streams --------------------------------------------------------------------------------------


def _usual(draw: Any) -> dict[str, Any]:
    """A redemption as it should be, or nearly."""
    promotion_id = draw(st.sampled_from(["once", "twice", "auto", "daily"] * 4 + ["broken"]))
    own = [one for one in TOKENS if one.startswith(promotion_id.upper())] or [""]
    at_ms = NOW_MS + draw(st.integers(0, 3)) * 60_000
    number = draw(st.integers(1, 12))
    return {
        "kind": "redeemed",
        "promotion_id": promotion_id,
        "merchant": SHOP,
        "at_ms": at_ms,
        "day": day_of(at_ms, TERMS[promotion_id].schedule.time_zone).isoformat(),
        "terms_digest": DIGESTS[promotion_id],
        "token_id": draw(st.sampled_from(own)),
        "order_id": f"o{number}",
        "redemption_id": f"{promotion_id}-r{number}",
        "allotment_id": _id(f"{promotion_id}-{draw(st.sampled_from(['big', *PARTS]))}"),
        "amount_minor": draw(st.sampled_from([0, 35, 100, 250])),
        "currency": "USD",
        "is_direct": draw(st.booleans()),
    }


CHANGES: dict[str, list[Any]] = {
    "kind": ["reserved", "refused", "released", "expired", "reversed", "shown"],
    "token_id": ["", _id("unknown"), *ODD_TOKENS, *TOKENS],
    "allotment_id": ["", _id("unknown"), _id("once-big"), _id("auto-small")],
    "amount_minor": [1, 99, 10**9, -1, "1"],
    "redemption_id": ["", "once-r1", "auto-r2"],
    "order_id": ["", "o1", "o2"],
    "merchant": [OTHER],
    "day": ["2001-01-01"],
    "currency": ["EUR", ""],
    "terms_digest": [DIGESTS["once"], "sha-256=:" + "A" * 43 + "=:"],
    "reason": ["schedule"],
    "unheard_of": [1, 2**53, 1.5, {"a": [1, "ä"]}],
}


@st.composite
def reports(draw: Any) -> tuple[str, dict[str, Any]]:
    """Type and data of one event: mostly redemptions and what takes them back."""
    entry = _usual(draw)
    match draw(st.integers(0, 9)):
        case 0 | 1 | 2 | 3:
            pass
        case 4 | 5 | 6:
            entry |= {
                "kind": "reversed",
                "amount_minor": draw(st.sampled_from([0, 35, 40, 100, 250])),
                "is_complete": draw(st.booleans()),
            }
        case 7 | 8:
            for name in draw(st.sets(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=2)):
                entry[name] = draw(st.sampled_from(CHANGES[name]))
        case _:
            other = [
                (REPORTED, {}),
                ("sconto.unheard.of.v1", {"entry": entry}),
                *(
                    (CLOSED, {"allotment_id": entry["allotment_id"], "last_sequence": 1} | spent)
                    for spent in (
                        {"spent_uses": 0, "spent_minor": 0},
                        {"spent_uses": 2, "spent_minor": 250},
                    )
                ),
            ]
            return draw(st.sampled_from(other))
    data: dict[str, Any] = {"entry": entry}
    if entry["promotion_id"] == "daily" or draw(st.integers(0, 19)) == 0:
        some = [["day"]] * 6 + [["narrow"]] * 2 + [["day", "narrow"], ["past"], ["big"], ["x"], []]
        data["parts"] = [_id(f"daily-{name}") for name in draw(st.sampled_from(some))]
        if draw(st.integers(0, 19)) == 0:
            data["parts"] *= 2
    if draw(st.booleans()):
        data["receipt"] = "a.b.c"
    return REPORTED, data


@st.composite
def streams(draw: Any) -> list[bytes]:
    """Events of a stream as the wire has them: as our outbox writes them, or otherwise."""
    some = draw(st.lists(reports(), min_size=1, max_size=40))
    events = []
    for number, (type_, data) in enumerate(some, 1):
        repeated = draw(st.integers(0, 19)) == 0
        events.append(_event(number, type_, data, of_id=1 if repeated else number))
        if draw(st.integers(0, 9)) == 0:
            events[-1] = _otherwise(events[-1], draw(st.integers(0, 3)))
    return events


def _event(number: int, type_: str, data: dict[str, Any], *, of_id: int) -> bytes:
    entry = data.get("entry")
    if isinstance(entry, dict):  # as `Entry` is written: no defaults
        fields = {one.name: one.default for one in msgspec.structs.fields(Entry)}
        known = {n: entry[n] for n, usual in fields.items() if n in entry and entry[n] != usual}
        data = {**data, "entry": known | {n: v for n, v in entry.items() if n not in fields}}
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": f"{HUB}#{of_id}",
            "source": SHOP,
            "type": type_,
            "subject": "about",
            "time": "2026-11-24T10:30:11Z",
            "sequence": f"{number:020}",
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def _otherwise(event: bytes, how: int) -> bytes:
    """The same event in another spelling, or what strict JSON refuses."""
    if how == 0:
        return msgspec.json.format(event)
    if how == 1:
        return msgspec.json.encode(dict(sorted(msgspec.json.decode(event).items())))
    if how == 2:
        comma = b"" if b'"data":{}' in event else b","
        return event.replace(b'"data":{', b'"data":{"big":90071992547409930' + comma)
    return event.replace(b'"subject"', b'"subject":"twice","subject"')


# --- both ways ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of parked events say so in the log."""
    monkeypatch.setattr(receiving.log, "disabled", True)


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[Hub]:
    """A hub whose datastore each example replaces; the first one is kept as it was prepared."""
    home = create_home(
        folder / "hub", kind="hub", name="Hub", url=HUB, now_ms=NOW_MS, random=secrets.token_bytes
    )
    hub = Hub(home, clock=lambda: NOW_MS)
    merchant = SimpleNamespace(kind="merchant")
    hub.base.directory = SimpleNamespace(get={SHOP: merchant}.get)  # type: ignore[assignment]
    hub.base.deliverer = SimpleNamespace(  # type: ignore[assignment]
        heard_from=lambda peer: None, alarms=()
    )
    hub.base.store.write_now(_prepare)
    hub.base.close()
    looked_up = hub.catalogue.terms

    def terms(connection: sa.Connection, digest: str) -> Any:
        if digest == DIGESTS["broken"]:
            raise KeyError("our own mistake")
        return looked_up(connection, digest)

    hub.catalogue.terms = terms  # type: ignore[method-assign]
    return hub


def _run(hub: Hub, url: str, events: list[bytes], cuts: list[tuple[int, int]]) -> dict[str, Any]:
    """Deliver a stream in pieces (how far back or ahead each begins, its length): the datastore."""
    loop = asyncio.new_event_loop()
    store = Store(
        url,
        source=HUB,
        clock=lambda: NOW_MS,
        on_queued=lambda: loop.call_soon(store.run_batch) and None,
    )
    if url.startswith("sqlite"):  # what a power cut takes is not looked at
        driver: Any = store._connection.connection.driver_connection
        driver.execute("PRAGMA synchronous=OFF")
    hub.base.store = store
    numbers = itertools.count()
    hub.random = lambda size: next(numbers).to_bytes(size, "big")
    acked = 0

    def deliver(start: int, length: int) -> int:
        body = b"[" + b",".join(events[max(start, 0) : max(start, 0) + length]) + b"]"
        call = SimpleNamespace(body=body, principal=SimpleNamespace(peer_url=SHOP))
        answer = loop.run_until_complete(receiving.receive_events.run(hub, call))
        return int(answer["acked"])

    try:
        for back, length in cuts:
            acked = deliver(acked - back, length)
        while acked < len(events):
            before, acked = acked, deliver(acked, 50)
            assert acked > before, "the stream stands still"
        with store.read() as connection:
            found: dict[str, Any] = {
                table.name: sorted(map(repr, connection.execute(sa.select(table))))
                for table in metadata.sorted_tables
            }
            # The order counts, and not the numbers: PostgreSQL counts on after a deletion.
            moves = sa.select(*list(transfers.c)[1:]).order_by(transfers.c.transfer_id)
            found["transfers"] = list(map(repr, connection.execute(moves)))
            assert books.check(connection).faults == []
    finally:
        store.close()
        loop.close()
    return found


def _one_by_one(hub: Hub) -> Any:
    """The hub with the slow twin of its handler."""
    slow = SimpleNamespace(**vars(hub))
    slow.event_handlers = {**Hub.event_handlers, REPORTED: row_by_row.journal_reported}
    return slow


def _copy(folder: Path, name: str) -> str:
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{name}.db{suffix}").unlink(missing_ok=True)
    shutil.copy(folder / "hub" / "sconto.db", folder / f"{name}.db")
    return f"sqlite:///{folder / name}.db"


cuts = st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 30)), max_size=5)


@settings(max_examples=20)
@given(streams(), cuts)
def test_together_is_as_one_by_one(
    hub: Hub, folder: Path, events: list[bytes], cuts: list[tuple[int, int]]
) -> None:
    together = _run(hub, _copy(folder, "together"), events, cuts)
    alone = _run(_one_by_one(hub), _copy(folder, "alone"), events, cuts)
    for name, rows in alone.items():
        assert together[name] == rows, name


def test_postgresql_has_the_same(hub: Hub, folder: Path, postgres_database: str) -> None:
    """Together on PostgreSQL, alone on SQLite."""
    migrate(postgres_database)

    @settings(max_examples=4)
    @given(streams(), cuts)
    def same(events: list[bytes], cuts: list[tuple[int, int]]) -> None:
        store = Store(postgres_database, source=HUB, clock=lambda: NOW_MS)
        store.write_now(_empty)
        store.write_now(_prepare)
        store.close()
        together = _run(hub, postgres_database, events, cuts)
        alone = _run(_one_by_one(hub), _copy(folder, "alone"), events, cuts)
        for name, rows in alone.items():
            assert together[name] == rows, name

    same()


def _empty(tx: Tx) -> None:
    for table in reversed(metadata.sorted_tables):
        tx.write(sa.delete(table))
