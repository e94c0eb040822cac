"""Outbox and inbox: numbers without a gap, acknowledged once, applied once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sconto.base.errors import ConflictError
from sconto.federation.events import decode_batch
from sconto.store import Store, exchange
from sconto.store.exchange import Stream
from sconto.store.schema import inbox
from sconto.store.writer import Tx

HUB = "https://hub.example"
WALLET = "https://wallet.example"


def send(store: Store, *destinations: str) -> None:
    def command(tx: Tx) -> None:
        for destination in destinations:
            tx.send(destination, "sconto.test.v1", "subject", {"to": destination})

    store.write_now(command)


def pending(store: Store, destination: str, limit: int = 1000) -> list[int]:
    with store.read() as connection:
        return [number for number, _ in exchange.pending(connection, destination, limit)]


def streams(store: Store) -> list[Stream]:
    with store.read() as connection:
        return exchange.streams(connection)


def acknowledge(store: Store, destination: str, number: int) -> None:
    store.write_now(lambda tx: exchange.acknowledge(tx.connection, destination, number))


def receive(store: Store, number: int, event_id: str | None = None, source: str = HUB) -> bool:
    event = (event_id or f"{source}#{number}", number)
    known: set[int] = store.write_now(
        lambda tx: exchange.receive(tx.connection, source, [event], tx.now_ms)
    )
    return not known


def received(store: Store, source: str = HUB) -> int:
    with store.read() as connection:
        return exchange.received(connection, source)


# --- out ------------------------------------------------------------------------------------------


def test_each_destination_has_its_own_numbers_from_one(store: Store) -> None:
    send(store, HUB, WALLET, HUB)
    send(store, HUB)
    assert pending(store, HUB) == [1, 2, 3]
    assert pending(store, WALLET) == [1]
    assert streams(store) == [Stream(HUB, 3, 0), Stream(WALLET, 1, 0)]
    assert pending(store, HUB, limit=2) == [1, 2]


def test_events_are_cloud_events_as_the_other_side_reads_them(store: Store) -> None:
    """Goal: what leaves is what arrives. Method: decode the batch with the receiver's code."""
    send(store, HUB, HUB)
    with store.read() as connection:
        rows = exchange.pending(connection, HUB, 10)
    events = decode_batch(b"[" + b",".join(event for _, event in rows) + b"]")
    assert [(e.id, e.sequence) for e in events] == [(f"{HUB}#1", 1), (f"{HUB}#2", 2)]
    assert events[0].source == store.source
    assert events[0].type == "sconto.test.v1"
    assert events[0].data == {"to": HUB}
    assert events[0].time_ms == store.clock()


def test_numbers_have_no_gap_under_many_writers(store: Store) -> None:
    """Goal: gapless streams. Method: four threads, two peers, refusals and failures among them."""

    def work(number: int) -> None:
        def command(tx: Tx) -> None:
            if number % 5 == 0:
                raise ConflictError("no")
            tx.send(HUB, "sconto.test.v1", "subject", number)
            tx.send(WALLET, "sconto.test.v1", "subject", number)
            if number % 7 == 0:
                raise KeyError("our mistake")

        if number % 5 == 0 or number % 7 == 0:
            with pytest.raises((ConflictError, KeyError)):
                store.write_now(command)
        else:
            store.write_now(command)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(100)))
    sent = {number for number in range(100) if number % 5 and number % 7}
    for destination in (HUB, WALLET):
        with store.read() as connection:
            rows = exchange.pending(connection, destination, 1000)
        assert [number for number, _ in rows] == list(range(1, len(sent) + 1))
        assert {msgspec.json.decode(event)["data"] for _, event in rows} == sent


def test_what_is_acknowledged_is_gone_and_never_comes_back(store: Store) -> None:
    send(store, *[HUB] * 5)
    acknowledge(store, HUB, 3)
    assert pending(store, HUB) == [4, 5]
    acknowledge(store, HUB, 2)  # an old answer, late
    acknowledge(store, HUB, 3)
    assert streams(store) == [Stream(HUB, 5, 3)]
    assert pending(store, HUB) == [4, 5]
    send(store, HUB)
    assert pending(store, HUB) == [4, 5, 6]  # numbers go on


def test_what_was_never_sent_cannot_be_acknowledged(store: Store) -> None:
    """Goal: a lying peer makes us forget nothing. Method: it acknowledges too much."""
    send(store, HUB, HUB)
    acknowledge(store, HUB, 3)
    acknowledge(store, WALLET, 1)
    assert pending(store, HUB) == [1, 2]
    assert streams(store) == [Stream(HUB, 2, 0)]


def test_acknowledging_one_peer_leaves_the_other(store: Store) -> None:
    send(store, HUB, WALLET)
    acknowledge(store, HUB, 1)
    assert (pending(store, HUB), pending(store, WALLET)) == ([], [1])


def test_a_restarted_stream_has_all_that_waited_in_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: new numbers from 1, the same ids. Method: five that wait, renumbered two at a time."""
    monkeypatch.setattr(exchange, "RESTARTED_AT_ONCE", 2)
    send(store, *[HUB] * 8)
    acknowledge(store, HUB, 3)
    store.write_now(lambda tx: exchange.restart(tx.changing(), "S" * 26, [WALLET]))
    assert streams(store) == [Stream(HUB, 5, 0, "S" * 26), Stream(WALLET, 0, 0, "S" * 26)]
    with store.read() as connection:
        rows = exchange.pending(connection, HUB, 10)
    events = decode_batch(b"[" + b",".join(event for _, event in rows) + b"]")
    assert [(event.sequence, event.id) for event in events] == [
        (number, f"{HUB}#{number + 3}") for number in range(1, 6)
    ]
    assert {event.stream for event in events} == {"S" * 26}


# --- in -------------------------------------------------------------------------------------------


def test_what_was_received_is_remembered_for_each_source(store: Store) -> None:
    assert received(store) == 0
    assert receive(store, 1)
    assert receive(store, 2)
    assert receive(store, 1, source=WALLET)
    assert (received(store), received(store, WALLET)) == (2, 1)


def test_an_id_that_comes_again_is_told(store: Store) -> None:
    """Goal: an event is applied once, even under another number. Method: the same id, twice."""
    assert receive(store, 1, "same")
    assert not receive(store, 2, "same")
    assert received(store) == 2  # and the stream goes on
    assert receive(store, 1, "same", source=WALLET)  # ids are the source's own


def test_ids_that_come_again_are_told_of_a_run(store: Store) -> None:
    """Goal: each id once. Method: 300 events; one known id and two of the run come again."""
    receive(store, 1, "known")
    run = [(f"id {number}", number) for number in range(2, 302)]
    run[7], run[9], run[11] = ("known", 9), ("id 2", 11), ("id 2", 13)
    again = store.write_now(lambda tx: exchange.receive(tx.connection, HUB, run, tx.now_ms))
    assert again == {9, 11, 13}
    assert received(store) == 301
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(inbox)).scalar() == 298


def test_the_database_keeps_an_id_once(store: Store) -> None:
    receive(store, 1, "same")
    row = {"source": HUB, "event_id": "same", "sequence": 2, "received_at_ms": 1}
    with pytest.raises(IntegrityError):
        store.write_now(lambda tx: tx.write(sa.insert(inbox), row))


def test_the_inbox_and_the_effect_are_one_transaction(store: Store) -> None:
    """Goal: neither without the other. Method: an effect that fails after the inbox row."""

    def command(tx: Tx) -> None:
        exchange.receive(tx.changing(), HUB, [("id", 1)], tx.now_ms)
        raise KeyError("our mistake")

    with pytest.raises(KeyError):
        store.write_now(command)
    assert received(store) == 0
    assert receive(store, 1, "id")


def test_a_poisonous_event_is_parked_with_its_reason(store: Store, clock: Any) -> None:
    def park(number: int, source: str = HUB) -> None:
        def command(tx: Tx) -> None:
            exchange.park(tx.changing(), source, number, b"event", f"reason {number}", tx.now_ms)
            exchange.receive(tx.connection, source, [(f"id {number}", number)], tx.now_ms)

        store.write_now(command)

    park(1)
    park(2)
    clock.now_ms += 1
    park(1, WALLET)
    with store.read() as connection:
        all_ = exchange.parked(connection)
        of_hub = exchange.parked(connection, HUB)
    assert [(row["source"], row["reason"]) for row in all_] == [
        (HUB, "reason 1"),
        (HUB, "reason 2"),
        (WALLET, "reason 1"),
    ]
    assert of_hub == all_[:2]
    assert bytes(of_hub[0]["event"]) == b"event"
    assert received(store) == 2
    with pytest.raises(IntegrityError):
        park(2)
