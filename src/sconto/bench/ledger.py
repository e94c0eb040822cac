"""`python -m sconto.bench.ledger`: exact limits, as quick as the design says.

1. On SQLite with one process, and on PostgreSQL with several: redemptions of one hot promotion per
   second, in turn with the naive way (`naive.py`) and with a no-op, and their latency at fixed
   rates. A ratio is the median of the rounds' ratios.
2. The last unit: rounds of simultaneous buyers (`buyers.py`), on both.
3. A hub and its merchants (`together.py`): reports per second that the hub applies, the latency of
   a merchant that is cut off from it, and how much of a cap is used.

One JSON object a line on standard output, progress on standard error.
"""

import argparse
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from sconto.base.errors import ScontoError
from sconto.bench import naive, together
from sconto.bench.buyers import BUYERS, play, promotions
from sconto.bench.databases import postgresql
from sconto.bench.figures import Figure, Options, at_least, say, say_if_busy, tell
from sconto.bench.groceries import load_groceries
from sconto.bench.latency import at_rates
from sconto.bench.load import Load, Outcome, Place, run
from sconto.bench.network import prepare, running
from sconto.terms import Terms

NAIVE_TARGET = 10.0
NOOP_TARGET = 0.20
BUYER_ROUNDS = 1000
BACKLOG = 50_000
CAP = 10_000
PROCESSES = 4


class Served(NamedTuple):
    """A running server."""

    place: Place
    pid: int
    path: str
    status: int


class Database(NamedTuple):
    """Where the servers of a part keep what they know."""

    name: str
    processes: int
    #: A database URL for a new server's name; None: in its folder.
    url_of: Callable[[str], str | None]


def rates(database: Database, carts: tuple[str, ...], options: Options) -> Iterator[Figure]:
    """Redemptions per second beside the naive way and a no-op, and latency at fixed rates."""
    kinds = ("noop", "naive", "redeem")
    name = database.name
    with tempfile.TemporaryDirectory(prefix="sconto-bench-") as scratch, ExitStack() as stack:
        served = {
            kind: _start(stack, Path(scratch), database, kind, [together.hot()]) for kind in kinds
        }
        rounds: list[dict[str, tuple[Outcome, float]]] = []
        for number in range(options.rounds):
            rounds.append({})
            for kind, one in served.items():
                outcome, cpu_us = rounds[-1][kind] = _load(one, carts, options)
                say(
                    f"round {number + 1}: {kind:6} on {name} {outcome.per_second:8,.0f}/s  "
                    f"p50 {outcome.p50_ms:.1f} ms  p99 {outcome.p99_ms:.1f} ms  "
                    f"server CPU {cpu_us:.0f} us each "
                    f"(the load took {outcome.cpu_seconds / options.seconds:.0%} of a core)"
                )
        for kind in kinds:
            ours = [one[kind] for one in rounds]
            per_second = median(outcome.per_second for outcome, _ in ours)
            cpu_us = median(cpu for _, cpu in ours)
            if kind == "redeem":
                yield _ratio(rounds, "redeem", "naive", name, NAIVE_TARGET)
                yield _ratio(rounds, "redeem", "noop", name, NOOP_TARGET)
            else:
                bench = f"{kind}_{name}"
                yield Figure(bench=bench, value=round(per_second, 1), unit="requests/s")
            yield Figure(bench=f"{kind}_{name}_cpu", value=round(cpu_us, 1), unit="us/request")
        redeem = served["redeem"]
        yield from at_rates(f"redeem_{name}", redeem.place, redeem.pid, carts, options)


def last_unit(database: Database, rounds: int) -> Iterator[Figure]:
    """Rounds in which exactly one of the buyers got it."""
    with tempfile.TemporaryDirectory(prefix="sconto-bench-") as scratch, ExitStack() as stack:
        say(f"{rounds} rounds of {BUYERS} buyers for a last unit on {database.name} ...")
        one = _start(stack, Path(scratch), database, "redeem", promotions(rounds))
        played = play(one.place, rounds, secrets.token_hex(4))
    won = played.by_winners.get(1, 0)
    say(f"winners: rounds {played.by_winners}, in {played.seconds:.0f} s")
    yield Figure(
        bench=f"last_unit_{database.name}_one_winner",
        value=won,
        unit="rounds",
        target=rounds,
        holds=won == rounds,
    )


def _ratio(
    rounds: Sequence[dict[str, tuple[Outcome, float]]],
    kind: str,
    to: str,
    name: str,
    target: float,
) -> Figure:
    per_second = median(one[kind][0].per_second for one in rounds)
    return at_least(
        f"{kind}_{name}_to_{to}",
        per_second,
        "requests/s",
        ratio=median(one[kind][0].per_second / one[to][0].per_second for one in rounds),
        ratio_to=f"{to}_{name}",
        target=target,
    )


def _start(
    stack: ExitStack, scratch: Path, database: Database, kind: str, terms: Sequence[Terms]
) -> Served:
    folder = scratch / kind
    place = prepare(folder, terms, database.url_of(f"{kind}-{secrets.token_hex(4)}"))
    process = "merchant" if kind == "redeem" else kind
    processes = database.processes if kind == "redeem" else 1
    server = stack.enter_context(running(process, folder, place, processes))
    path, status = {
        "noop": ("/v1/noop", 200),
        "naive": (naive.PATH, 201),
        "redeem": ("/v1/redemptions", 201),
    }[kind]
    return Served(place, server.pid, path, status)


def _load(served: Served, carts: tuple[str, ...], options: Options) -> tuple[Outcome, float]:
    load = Load(
        place=served.place,
        path=served.path,
        carts=carts,
        order_prefix=secrets.token_hex(4),
        status=served.status,
        connections=options.connections,
        seconds=options.seconds,
    )
    return run(load, served.pid)


#: What can be measured, by the name that the command line has for it.
PARTS = ("sqlite", "postgresql", "last-unit", "ingest", "cut-off", "utilisation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything, or what is named; 0 when it could be measured."""
    options = Options()
    parser = argparse.ArgumentParser(prog="python -m sconto.bench.ledger", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--seconds", type=float, default=options.seconds, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=options.rounds)
    parser.add_argument("--connections", type=int, default=options.connections)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="on PostgreSQL")
    parser.add_argument(
        "--buyer-rounds", type=int, default=BUYER_ROUNDS, help="for a last unit, on each database"
    )
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="reports for the hub")
    parser.add_argument("--cap", type=int, default=CAP, help="uses that merchants share")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - set(PARTS)
    if unknown:
        parser.error(f"no part {sorted(unknown)[0]!r}; there are {', '.join(PARTS)}")
    counts = (given.rounds, given.connections, given.processes, given.buyer_rounds)
    if given.seconds <= 0 or min(*counts, given.backlog, given.cap) < 1:
        parser.error("all numbers are above zero")
    options = Options(seconds=given.seconds, rounds=given.rounds, connections=given.connections)
    names = given.names or PARTS
    say_if_busy()
    try:
        say("Reading the baskets ...")
        carts = tuple(cart.decode() for cart in load_groceries().carts)
        with ExitStack() as stack:
            alone = Database("sqlite", 1, lambda name: None)
            if "sqlite" in names:
                tell(rates(alone, carts, options))
            if "last-unit" in names:
                tell(last_unit(alone, given.buyer_rounds))
            if "postgresql" in names or "last-unit" in names:
                create = stack.enter_context(postgresql())
                shared = Database("postgresql", given.processes, create)
                if "postgresql" in names:
                    tell(rates(shared, carts, options))
                if "last-unit" in names:
                    tell(last_unit(shared, given.buyer_rounds))
        parts: dict[str, Callable[[], Iterator[Figure]]] = {
            "ingest": partial(together.ingest, given.backlog),
            "cut-off": partial(together.cut_off, options, carts),
            "utilisation": partial(together.utilisation, options, carts, given.cap),
        }
        for name, measure in parts.items():
            if name in names:
                tell(measure())
    except (ScontoError, RuntimeError) as error:
        say(f"ledger: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
