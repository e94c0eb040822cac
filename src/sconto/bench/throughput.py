"""Requests per second of a no-op, of evaluations and of redemptions, in turn, in the same run.

Beside them the processor time that the server takes for each: it bends less where the machine is
shared, and says what a second core is worth.

All servers run at the same time, each in its process; one is measured at a time, a no-op first in
each round. A ratio is the median over the rounds of figure / no-op of the same round, so that a
machine that others slow down for a while does not bend it.
"""

import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from sconto.bench.figures import Figure, Options, at_least, say
from sconto.bench.groceries import Groceries, load_groceries
from sconto.bench.load import Load, Place, run
from sconto.bench.network import prepare, running

EVALUATE_TARGET = 0.30
REDEEM_TARGET = 0.20
#: Promotions of the merchant; the targets for evaluations are about the larger number.
FEW = 100
MANY = 10_000


class Server(NamedTuple):
    """A running server process."""

    place: Place
    pid: int


class _Kind(NamedTuple):
    bench: str
    server: Server
    path: str
    is_order: bool
    status: int
    target: float | None


class _Measured(NamedTuple):
    per_second: float
    #: Microseconds of the server's processor time for each request; 0: not told.
    cpu_us: float


def throughput(options: Options) -> Iterator[Figure]:
    """`noop`, `evaluate` with few and many promotions, `redeem`."""
    say("Reading the baskets ...")
    groceries = load_groceries()
    with tempfile.TemporaryDirectory(prefix="sconto-bench-") as scratch, ExitStack() as stack:
        say(f"Starting a no-op server and merchants with {FEW} and {MANY:,} promotions ...")
        bare, few, many = (
            start(stack, Path(scratch), kind, groceries, number)
            for kind, number in (("noop", 0), ("merchant", FEW), ("merchant", MANY))
        )
        kinds = [
            _Kind("noop", bare, "/v1/noop", True, 200, None),
            _Kind(f"evaluate_{FEW}", few, "/v1/evaluations", False, 200, None),
            _Kind(f"evaluate_{MANY}", many, "/v1/evaluations", False, 200, EVALUATE_TARGET),
            _Kind("redeem", few, "/v1/redemptions", True, 201, REDEEM_TARGET),
        ]
        rounds = [
            [_measure(kind, groceries, options, number) for kind in kinds]
            for number in range(options.rounds)
        ]
    noops = [measured[0] for measured in rounds]
    yield Figure(bench="noop", value=_median(one.per_second for one in noops), unit="requests/s")
    yield Figure(bench="noop_cpu", value=_median(one.cpu_us for one in noops), unit="us/request")
    for i, kind in enumerate(kinds[1:], 1):
        ours = [measured[i] for measured in rounds]
        pairs = list(zip(ours, noops, strict=True))
        yield at_least(
            kind.bench,
            median(one.per_second for one in ours),
            "requests/s",
            ratio=median(one.per_second / noop.per_second for one, noop in pairs),
            ratio_to="noop",
            target=kind.target,
        )
        yield at_least(
            f"{kind.bench}_cpu",
            median(one.cpu_us for one in ours),
            "us/request",
            ratio=median(one.cpu_us / (noop.cpu_us or 1) for one, noop in pairs),
            ratio_to="noop_cpu",
            target=None,
        )


def _median(values: Iterable[float]) -> float:
    return round(median(values), 1)


def start(stack: ExitStack, scratch: Path, kind: str, groceries: Groceries, number: int) -> Server:
    """A server process with promotions for these carts, until the stack is closed."""
    folder = scratch / f"{kind}-{number}"
    place = prepare(folder, groceries.terms(number))
    return Server(place, stack.enter_context(running(kind, folder, place)).pid)


def _measure(kind: _Kind, groceries: Groceries, options: Options, number: int) -> _Measured:
    outcome, cpu_us = run(
        Load(
            place=kind.server.place,
            path=kind.path,
            carts=tuple(cart.decode() for cart in groceries.carts),
            order_prefix=secrets.token_hex(4) if kind.is_order else None,
            status=kind.status,
            connections=options.connections,
            seconds=options.seconds,
        ),
        kind.server.pid,
    )
    say(
        f"round {number + 1}: {kind.bench:15} {outcome.per_second:8,.0f}/s  "
        f"p50 {outcome.p50_ms:.1f} ms  p99 {outcome.p99_ms:.1f} ms  "
        f"server CPU {cpu_us:.0f} us each "
        f"(the load took {outcome.cpu_seconds / options.seconds:.0%} of a core)"
    )
    return _Measured(outcome.per_second, cpu_us)
