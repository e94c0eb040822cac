"""Latency of redemptions that arrive at a fixed rate, timed from when each was due."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from sconto.bench.figures import Figure, Options, at_most, say
from sconto.bench.groceries import load_groceries
from sconto.bench.load import Load, Place, run
from sconto.bench.throughput import FEW, start

#: Redemptions per second, with the target of their p99 in milliseconds.
RATES = ((500, None), (2000, 25.0))
#: Enough for a server that is late: what finds none free waits, and its time counts.
CONNECTIONS = 64


def latency(options: Options) -> Iterator[Figure]:
    """`redeem_p50_at_…` and `redeem_p99_at_…`."""
    say("Reading the baskets ...")
    groceries = load_groceries()
    carts = tuple(cart.decode() for cart in groceries.carts)
    with tempfile.TemporaryDirectory(prefix="sconto-bench-") as scratch, ExitStack() as stack:
        server = start(stack, Path(scratch), "merchant", groceries, FEW)
        yield from at_rates("redeem", server.place, server.pid, carts, options)


def at_rates(
    bench: str, place: Place, pid: int, carts: tuple[str, ...], options: Options
) -> Iterator[Figure]:
    """Medians over the rounds, at each of `RATES`."""
    for rate, target in RATES:
        outcomes = []
        for number in range(options.rounds):
            load = Load(
                place=place,
                path="/v1/redemptions",
                carts=carts,
                order_prefix=secrets.token_hex(4),
                status=201,
                connections=CONNECTIONS,
                seconds=options.seconds,
                rate=rate,
            )
            outcome, _ = run(load, pid)
            outcomes.append(outcome)
            say(
                f"round {number + 1}: {bench} at {rate} per s  p50 {outcome.p50_ms:.1f} ms  "
                f"p99 {outcome.p99_ms:.1f} ms"
            )
        p50 = median(outcome.p50_ms for outcome in outcomes)
        p99 = median(outcome.p99_ms for outcome in outcomes)
        yield at_most(f"{bench}_p50_at_{rate}_per_s", p50, "ms", target=None)
        yield at_most(f"{bench}_p99_at_{rate}_per_s", p99, "ms", target=target)
