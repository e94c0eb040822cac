"""`python -m sconto.bench.engine`: the promotion engine by itself, and beside others.

1. Mixed sets of 10 to 100,000 promotions (1,000,000 with `--million`), each in a process of its
   own that has built it; all of them are measured in turn, round after round, and a ratio is the
   median of the rounds' ratios. The middle set is evaluated by the compiled engine too, where there
   is one (ADR 0016).
2. "2 or more of P: 10 % off P" on the same carts through other engines (`peers.py`).

One JSON object a line on standard output, progress on standard error.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from sconto.base.errors import ScontoError
from sconto.bench.evaluator import Built, Evaluator, Job, Round, evaluator
from sconto.bench.figures import Figure, at_least, at_most, missing, say, say_if_busy, tell, within
from sconto.bench.peers import compare
from sconto.bench.promotion_sets import recipe_of

SIZES = (10, 1000, 10_000, 100_000)
MILLION = 1_000_000
#: The set that larger ones are compared with, and that the large cart is evaluated in.
MIDDLE = 10_000
PEER_SIZES = (10, 100, 1000, 10_000)

#: The targets of the design; `LARGER` is times the middle set's.
TEN_US, LARGER, COMPILE_S, MEMORY_MB, BIG_MS = 150.0, 1.3, 10.0, 4096.0, 20.0


def sets(
    sizes: Sequence[int], rounds: int, seconds: float, compiled: Path | None = None
) -> Iterator[Figure]:
    """Figures of the mixed sets; `compiled` is the folder of the compiled package."""
    say("Reading the baskets ...")
    recipe = recipe_of()
    with ExitStack() as stack:
        running: dict[int, Evaluator] = {}
        for size in sizes:
            big = recipe.big_cart if size == MIDDLE else None
            job = Job(size=size, carts=recipe.carts, recipe=recipe, big_cart=big)
            running[size] = stack.enter_context(evaluator(job))
            built = running[size].built
            say(f"{size} promotions: {built.compile_s:.1f} s, {built.memory_mb:.0f} MB")
        fast = None
        if MIDDLE in running and compiled is not None and compiled.is_dir():
            say(f"{MIDDLE} promotions by the compiled engine ...")
            job = Job(size=MIDDLE, carts=recipe.carts, recipe=recipe, big_cart=recipe.big_cart)
            fast = stack.enter_context(evaluator(job, compiled))
        measured: dict[int, list[Round]] = {size: [] for size in sizes}
        of_fast: list[Round] = []
        for number in range(rounds):
            for size, one in running.items():
                measured[size].append(one.round(seconds))
                if size == MIDDLE and fast is not None:
                    of_fast.append(fast.round(seconds))
                say(f"round {number + 1} of {rounds}: among {size} done")
        for size in sizes:
            yield from _of_set(size, running[size].built, measured)
        if MIDDLE in running:
            yield from _compiled(running[MIDDLE].built, measured[MIDDLE], fast, of_fast)


def _compiled(
    built: Built, rounds: list[Round], fast: Evaluator | None, of_fast: list[Round]
) -> Iterator[Figure]:
    """The compiled engine beside the one that the other figures are of."""
    name = f"evaluate_among_{MIDDLE}"
    yield Figure(bench="engine_compiled_modules", value=built.compiled_modules, unit="modules")
    ten, big = f"{name}_ten_candidates", "evaluate_200_lines_of_10000_units"
    if fast is None or not fast.built.compiled_modules:
        yield missing(f"{ten}_compiled", "us", "there is no compiled package: see `make wheel`")
        return
    if fast.built.discounts != built.discounts:
        yield missing(f"{ten}_compiled", "us", "it gives other discounts")
        return
    yield Figure(
        bench="engine_compiled_modules_compiled", value=fast.built.compiled_modules, unit="modules"
    )
    pairs = list(zip(rounds, of_fast, strict=True))
    for bench, unit, us, of in (
        (ten, "us", 1, [(x.ten, y.ten) for x, y in pairs]),
        (f"{name}_noop", "us", 1, [(x.noop, y.noop) for x, y in pairs]),
        (big, "ms", 1000, [(x.big, y.big) for x, y in pairs]),
    ):
        both = [(x.median_us, y.median_us) for x, y in of if x is not None and y is not None]
        if both:
            value = median(y for _, y in both) / us
            ratio = median(y / x for x, y in both)
            yield within(f"{bench}_compiled", value, unit, ratio=ratio, ratio_to=bench, target=None)


def _of_set(size: int, built: Built, all_rounds: dict[int, list[Round]]) -> Iterator[Figure]:
    name, rounds = f"evaluate_among_{size}", all_rounds[size]
    yield Figure(bench=f"{name}_noop", value=_us(x.noop.median_us for x in rounds), unit="us")
    tens = [one.ten for one in rounds if one.ten is not None]
    if not tens:
        yield missing(f"{name}_ten_candidates", "us", "no cart has ten candidates in this set")
    else:
        time_us = median(one.median_us for one in tens)
        bench = f"{name}_ten_candidates"
        middle = [one.ten for one in all_rounds.get(MIDDLE, ()) if one.ten is not None]
        if size > MIDDLE and middle:
            ratio = median(
                ours.median_us / theirs.median_us for ours, theirs in zip(tens, middle, strict=True)
            )
            to = f"evaluate_among_{MIDDLE}_ten_candidates"
            yield within(bench, time_us, "us", ratio=ratio, ratio_to=to, target=LARGER)
        else:
            target = TEN_US if size == MIDDLE else None
            yield at_most(bench, time_us, "us", target=target)
            ratio = median(one.ten.median_us / one.noop.median_us for one in rounds if one.ten)
            yield at_least(
                f"{bench}_to_noop", time_us, "us", ratio=ratio, ratio_to=f"{name}_noop", target=None
            )
        yield Figure(bench=f"{bench}_p99", value=_us(one.p99_us for one in tens), unit="us")
        yield Figure(bench=f"{bench}_carts", value=built.carts_of_ten, unit="carts")
        applied = round(built.applied_of_ten, 2)
        yield Figure(bench=f"{bench}_applied", value=applied, unit="promotions")
    yield Figure(bench=f"{name}_all_carts", value=_us(x.every.median_us for x in rounds), unit="us")
    yield Figure(
        bench=f"{name}_all_carts_p99", value=_us(x.every.p99_us for x in rounds), unit="us"
    )
    yield Figure(bench=f"{name}_candidates", value=round(built.candidates, 2), unit="promotions")
    bigs = [one.big for one in rounds if one.big is not None]
    if bigs:
        name_of_big = "evaluate_200_lines_of_10000_units"
        time_ms = median(one.median_us for one in bigs) / 1000
        yield at_most(name_of_big, time_ms, "ms", target=BIG_MS)
        worst = median(one.p99_us for one in bigs) / 1000
        yield at_most(f"{name_of_big}_p99", worst, "ms", target=None)
        yield Figure(
            bench=f"{name_of_big}_candidates", value=built.big_candidates, unit="promotions"
        )
        yield Figure(bench=f"{name_of_big}_applied", value=built.big_applied, unit="promotions")
    target = COMPILE_S if size == 100_000 else None
    yield at_most(f"compile_{size}", built.compile_s, "s", target=target)
    target = MEMORY_MB if size == MILLION else None
    yield at_most(f"memory_{size}", built.memory_mb, "MB", target=target)


def _us(values: Iterator[float]) -> float:
    return round(median(values), 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything, or what the arguments leave; 0 when it could be measured."""
    parser = argparse.ArgumentParser(prog="python -m sconto.bench.engine", description=__doc__)
    parser.add_argument("--million", action="store_true", help="a set of 1,000,000 too")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="of mixed sets")
    parser.add_argument("--peer-sizes", type=int, nargs="*", default=list(PEER_SIZES))
    parser.add_argument("--seconds", type=float, default=2.0, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=Path, default=Path("bench-peers"), help="their programs")
    parser.add_argument("--compiled", type=Path, default=Path("build/compiled"), help="package")
    parser.add_argument("--peers-python", type=Path, default=Path(".venv-bench/bin/python"))
    given = parser.parse_args(arguments)
    sizes = [*given.sizes, *([MILLION] if given.million else [])]
    if given.seconds <= 0 or given.rounds < 1 or min([1, *sizes, *given.peer_sizes]) < 1:
        parser.error("sizes, --seconds and --rounds are above zero")
    say_if_busy()
    try:
        if sizes:
            tell(sets(sizes, given.rounds, given.seconds, given.compiled))
        if given.peer_sizes:
            sizes_of_peers = tuple(given.peer_sizes)
            tell(compare(sizes_of_peers, given.seconds, given.peers_python, given.peers))
    except (ScontoError, RuntimeError) as error:
        say(f"engine: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
