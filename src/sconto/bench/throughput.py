"""Requests per second of a no-op, of evaluations and of redemptions, in turn, in the same run.

All servers run at the same time, each in its process; one is measured at a time, a no-op first in
each round. A ratio is the median over the rounds of figure / no-op of the same round, so that a
machine that others slow down for a while does not bend it.
"""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec

from sconto.bench.figures import Figure, Options, at_least, say
from sconto.bench.groceries import Groceries, load_groceries
from sconto.bench.load import Load, Outcome, run
from sconto.bench.network import Place, prepare, running

EVALUATE_TARGET = 0.30
REDEEM_TARGET = 0.20
#: Promotions of the merchant; the targets for evaluations are about the larger number.
FEW = 100
MANY = 10_000


class _Measured(msgspec.Struct, frozen=True):
    bench: str
    place: Place
    path: str
    is_order: bool
    status: int
    target: float | None


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
        measured = [
            _Measured("noop", bare, "/v1/noop", True, 200, None),
            _Measured(f"evaluate_{FEW}", few, "/v1/evaluations", False, 200, None),
            _Measured(f"evaluate_{MANY}", many, "/v1/evaluations", False, 200, EVALUATE_TARGET),
            _Measured("redeem", few, "/v1/redemptions", True, 201, REDEEM_TARGET),
        ]
        rounds = []
        for number in range(options.rounds):
            rounds.append([_measure(one, groceries, options, number) for one in measured])
    noops = [outcomes[0].per_second for outcomes in rounds]
    yield Figure(bench="noop", value=round(median(noops), 1), unit="requests/s")
    for i, one in enumerate(measured[1:], 1):
        rates = [outcomes[i].per_second for outcomes in rounds]
        ratio = median(rate / noop for rate, noop in zip(rates, noops, strict=True))
        yield at_least(
            one.bench,
            median(rates),
            "requests/s",
            ratio=ratio,
            ratio_to="noop",
            target=one.target,
        )


def start(stack: ExitStack, scratch: Path, kind: str, groceries: Groceries, number: int) -> Place:
    """A server process with promotions for these carts, until the stack is closed."""
    folder = scratch / f"{kind}-{number}"
    place = prepare(folder, groceries.terms(number))
    stack.enter_context(running(kind, folder, place))
    return place


def _measure(one: _Measured, groceries: Groceries, options: Options, number: int) -> Outcome:
    outcome = run(
        Load(
            place=one.place,
            path=one.path,
            carts=tuple(cart.decode() for cart in groceries.carts),
            order_prefix=secrets.token_hex(4) if one.is_order else None,
            status=one.status,
            connections=options.connections,
            seconds=options.seconds,
        )
    )
    say(
        f"round {number + 1}: {one.bench:15} {outcome.per_second:8,.0f}/s  "
        f"p50 {outcome.p50_ms:.1f} ms  p99 {outcome.p99_ms:.1f} ms  "
        f"(the load took {outcome.cpu_seconds / options.seconds:.0%} of a core)"
    )
    return outcome
