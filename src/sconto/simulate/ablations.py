"""Safeguards taken out, in simulation only: the auditor must notice each of them.

An ablation is a context in which one safeguard of the real code does nothing. If the auditor then
finds nothing, it is the auditor that is broken: the tests run each of them on seeds that catch it.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sconto import tokens
from sconto.base.canonical import b64url_decode
from sconto.ledger import Amounts
from sconto.servers import exchange as receiving
from sconto.servers.hub import counters, issuing
from sconto.servers.hub.allotments import GRANTED
from sconto.servers.merchant import limiting, recognise
from sconto.simulate import operators
from sconto.store import coupons, exchange, journal, ledger, orders
from sconto.store.schema import allotments
from sconto.store.writer import Store, Tx
from sconto.terms import counting

if TYPE_CHECKING:
    from sconto.simulate.world import World

Ablation = Callable[["World"], AbstractContextManager[None]]


@contextlib.contextmanager
def _instead(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def no_inbox(world: "World") -> AbstractContextManager[None]:
    """An event that was applied is applied again when it comes again."""
    return _again(lambda event: True)


def _again(is_meant: Callable[[Any], bool]) -> AbstractContextManager[None]:
    receive, news = exchange.receive, receiving._news

    def again(connection: Any, source: str, events: Any, now_ms: int) -> set[int]:
        last = exchange.received(connection, source)
        new = [event for event in events if event[1] > last]
        if new:
            receive(connection, source, new, now_ms)
        return set()

    def any_news(tx: Tx, source: str, run: Sequence[Any]) -> list[Any]:
        last, stream = exchange.position(tx.connection, source)
        is_known = run[0].stream == stream
        known = [e for e in run if is_known and e.sequence <= last and is_meant(e)]
        return [*known, *news(tx, source, run)]

    return _instead((exchange, "receive", again), (receiving, "_news", any_news))


@contextlib.contextmanager
def no_grant_ids(world: "World") -> Iterator[None]:
    """A grant that comes again is taken again, where the inbox does not notice grants either."""
    accept = ledger.accept
    world.at_least = ("reset",)
    world.visits = (20, 30)

    def again(tx: Tx, part: ledger.Allotment) -> bool:
        if accept(tx, part):
            return True
        tx.write(
            sa.update(allotments)
            .where(allotments.c.allotment_id == part.allotment_id)
            .values(
                granted_uses=allotments.c.granted_uses + part.granted.uses,
                left_uses=allotments.c.left_uses + part.granted.uses,
                granted_minor=allotments.c.granted_minor + part.granted.minor,
                left_minor=allotments.c.left_minor + part.granted.minor,
            )
        )
        return True

    grants = _again(lambda event: getattr(event, "type", "") == GRANTED)
    with grants, _instead((ledger, "accept", again)):
        yield


@contextlib.contextmanager
def no_sync(world: "World") -> Iterator[None]:
    """A crash takes the last commit with it, although it was acknowledged."""
    world.disks_forget = True
    world.at_least = ("kill", "restart_all")
    yield


def no_guard(world: "World") -> AbstractContextManager[None]:
    """Units are taken from a part whether they are there or not."""
    available = ledger.available

    def plenty(tx: Tx, holder: str, promotion_ids: Any) -> Any:
        found = available(tx.connection, holder, promotion_ids)
        lots = Amounts(10**12, 10**12)
        return {key: [part._replace(left=lots) for part in parts] for key, parts in found.items()}

    def take(tx: Tx, allotment_id: str, amounts: Amounts) -> ledger.Allotment:
        columns = allotments.c
        tx.write(
            sa.update(allotments)
            .where(columns.allotment_id == allotment_id)
            .values(
                left_uses=sa.func.max(columns.left_uses - amounts.uses, 0),
                left_minor=sa.func.max(columns.left_minor - amounts.minor, 0),
            )
        )
        part = ledger.get(tx.connection, allotment_id)
        return part  # type: ignore[return-value]

    return _instead((ledger, "available_to", plenty), (ledger, "spend", take))


def no_audience(world: "World") -> AbstractContextManager[None]:
    """A merchant takes tokens that are for another one."""
    verify_token, verify_proof = tokens.verify_token, tokens.verify_proof

    def any_token(token: str, keys: Any, *, audience: str, at_ms: Any) -> Any:
        return verify_token(token, keys, audience=_said(token)["aud"], at_ms=at_ms)

    def any_proof(proof: str, token: str, claims: Any, *, url: str, **options: Any) -> Any:
        return verify_proof(proof, token, claims, url=_said(proof)["htu"], **options)

    return _instead((recognise, "verify_token", any_token), (recognise, "verify_proof", any_proof))


def _said(jws: str) -> Any:
    return json.loads(b64url_decode(jws.split(".")[1]))


def no_common_commit(world: "World") -> AbstractContextManager[None]:
    """Statistics are counted in a second transaction, which a crash in between forgets."""
    commit, add = Store._commit, journal._add

    def twice(store: Store, jobs: Any, alone: bool) -> Exception | None:
        folds: list[Any] = []
        with _instead((journal, "_add", lambda connection, fold: folds.append(fold))):
            error = commit(store, jobs, alone)
        if error is None and folds:
            with store._connection.begin():
                for fold in folds:
                    add(store._connection, fold)
        return error

    return _instead((Store, "_commit", twice))


def no_outbox(world: "World") -> AbstractContextManager[None]:
    """Events are written down in a second transaction, which a crash in between forgets."""
    world.at_least = ("crash_after",)
    commit, append = Store._commit, exchange.append

    def twice(store: Store, jobs: Any, alone: bool) -> Exception | None:
        drafts: list[Any] = []

        def later(connection: Any, source: str, now_ms: int, events: Any) -> set[str]:
            drafts.extend(events)
            return set()

        with _instead((exchange, "append", later)):
            error = commit(store, jobs, alone)
        if error is None and drafts:
            with store._connection.begin():
                told = append(store._connection, store.source, store.clock(), drafts)
            store.on_commit(told)
        return error

    return _instead((Store, "_commit", twice))


@contextlib.contextmanager
def timer_reclaim(world: "World") -> Iterator[None]:
    """The hub takes parts back when a merchant was silent for a while, and gives them to others."""

    async def reclaim() -> None:
        hub = world.stage.hosts[0]

        def command(tx: Tx) -> None:
            for promotion_id in world.stage.auditor.rules:
                for part in ledger.of_promotion(tx.connection, promotion_id):
                    ledger.reclaim(tx, part.allotment_id)

        while True:
            await asyncio.sleep(3)
            if hub.is_up:
                hub.run(hub.server.base.store.write(command))

    world.also.append(reclaim)
    yield


def no_reversal_ids(world: "World") -> AbstractContextManager[None]:
    """A return that comes again is taken again."""
    world.at_least = ("reset",)
    return _instead((orders, "reversal", lambda connection, order_id, reversal_id: None))


@contextlib.contextmanager
def no_incarnation(world: "World") -> Iterator[None]:
    """A merchant's old backup serves as it is, and does not listen to its hub."""
    world.at_least = ("restore_merchant",)
    with _instead((operators, "renew", lambda server: {}), _deaf()):
        yield


def no_epoch(world: "World") -> AbstractContextManager[None]:
    """A hub's old backup has free what it granted since, and grants it to others."""
    world.at_least = ("restore_hub",)
    world.visits = (20, 30)
    return _instead((ledger, "begin_epoch", lambda *_: {}))


def _deaf() -> tuple[Any, str, Any]:
    async def ignore(deliverer: Any, peer: str) -> None:
        """A peer knows more of this server than it does: then it has all that waits for it."""

        def command(tx: Tx) -> None:
            stream = exchange.stream_to(tx.connection, peer)
            exchange.acknowledge(tx.connection, peer, stream.last_sequence, stream.stream)

        await deliverer._store.write(command)

    return receiving.Deliverer, "_was_restored", ignore


@contextlib.contextmanager
def no_release(world: "World") -> Iterator[None]:
    """A merchant says that it has released a token, and goes on taking it."""
    world.visits = (10, 15)
    with _instead((coupons, "release", lambda tx, coupon: None)):
        yield


@contextlib.contextmanager
def no_sharing(world: "World") -> Iterator[None]:
    """Each merchant counts for itself what merchants should count together."""
    counted = counting.counters
    world.visits = (10, 15)

    def alone(terms: Any, occasion: Any, *, is_of_hub: bool) -> Any:
        return counted(terms, occasion)

    with _instead(
        (limiting, "counters", alone), (counters, "dispute", lambda tx, entry, terms, parts: None)
    ):
        yield


@contextlib.contextmanager
def no_doubt(world: "World") -> Iterator[None]:
    """A restored hub opens a counter again that its backup lacks, and grants it a second time."""
    world.at_least = ("restore_hub",)
    world.visits = (20, 30)
    with _instead((ledger, "write_off_free", lambda tx, promotion_id, name: None)):
        yield


@contextlib.contextmanager
def no_shopper_limit(world: "World") -> Iterator[None]:
    """The hub issues tokens, and merchants take them, however many a shopper has had."""
    counted = counting.counters
    world.visits = (10, 15)

    def nobody(terms: Any, occasion: Any, *, is_of_hub: bool) -> Any:
        found = counted(terms, occasion, is_of_hub=is_of_hub)
        return [one for one in found or () if one.is_shared]

    with _instead((issuing, "shopper_limits", lambda terms: []), (limiting, "counters", nobody)):
        yield


ABLATIONS: dict[str, Ablation] = {
    "inbox": no_inbox,
    "grants": no_grant_ids,
    "sync": no_sync,
    "guard": no_guard,
    "audience": no_audience,
    "statistics": no_common_commit,
    "outbox": no_outbox,
    "reclaim": timer_reclaim,
    "reversals": no_reversal_ids,
    "incarnation": no_incarnation,
    "epoch": no_epoch,
    "release": no_release,
    "sharing": no_sharing,
    "doubt": no_doubt,
    "shoppers": no_shopper_limit,
}
