"""`python -m sconto.bench [names...]`: run benchmarks, print one JSON object a line."""

import argparse
import sys
from collections.abc import Sequence

from sconto.base.errors import ScontoError
from sconto.bench.figures import Benchmark, Options, say, say_if_busy, tell
from sconto.bench.latency import latency
from sconto.bench.throughput import throughput

BENCHMARKS: dict[str, Benchmark] = {"throughput": throughput, "latency": latency}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is named, or everything; 0 when all of it could be measured."""
    options = Options()
    parser = argparse.ArgumentParser(prog="python -m sconto.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--seconds", type=float, default=options.seconds, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=options.rounds)
    parser.add_argument("--connections", type=int, default=options.connections)
    given = parser.parse_args(arguments)
    unknown = set(given.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"no benchmark {sorted(unknown)[0]!r}; there are {', '.join(BENCHMARKS)}")
    if given.seconds <= 0 or given.rounds < 1 or given.connections < 1:
        parser.error("--seconds, --rounds and --connections are above zero")
    options = Options(seconds=given.seconds, rounds=given.rounds, connections=given.connections)
    say_if_busy()
    for name in given.names or BENCHMARKS:
        try:
            tell(BENCHMARKS[name](options))
        except (ScontoError, RuntimeError) as error:
            say(f"{name}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
