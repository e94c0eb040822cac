"""A process that compiles one set of promotions and times `evaluate` on it.

`python -m sconto.bench.evaluator` reads a `Job`, a line of JSON, from standard input, builds the
set and writes `Built`; then for each further line of input, the seconds to measure, it writes a
`Round`. A process of its own for each set, so that its memory is its own; several sets are measured
in turn, so that what else the machine does is spread over all of them.
"""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import fmean, median

import msgspec

from sconto.bench.groceries import two_of
from sconto.bench.promotion_sets import Recipe, documents
from sconto.cart import Cart, PromotionIndex, evaluate
from sconto.cart.basket import Basket
from sconto.cart.model import STRANGER, decode_cart
from sconto.terms import decode_terms, encode_terms, terms_digest

#: Candidates that the carts of the targets have.
CANDIDATES = 10
_BATCH = 5000
_AT_MS = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Which set, and which carts (JSON)."""

    size: int
    carts: tuple[str, ...]
    #: The mixed set of this recipe, or "2 of P: 10 % off P" of these products.
    recipe: Recipe | None = None
    products: tuple[str, ...] = ()
    big_cart: str | None = None


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """The set, ready."""

    #: From JSON: decode strictly, compute the digest, put into the index.
    compile_s: float
    #: Resident memory of the whole process.
    memory_mb: float
    promotions: int
    #: How many modules of the package are compiled.
    compiled_modules: int
    #: On average, over all carts.
    candidates: float
    #: How many carts have exactly `CANDIDATES`, and how many promotions apply to one of them.
    carts_of_ten: int
    applied_of_ten: float
    big_candidates: int = 0
    big_applied: int = 0
    #: What is taken off each cart.
    discounts: tuple[int, ...]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of one evaluation."""

    median_us: float
    p99_us: float
    count: int


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Measured in turn, cart after cart."""

    #: No promotion at all.
    noop: Times
    #: Carts with exactly ten candidates; None: there are none.
    ten: Times | None
    #: Every cart.
    every: Times
    big: Times | None


class Evaluator:
    """A running process; call it for a round."""

    def __init__(self, process: "subprocess.Popen[bytes]", built: Built) -> None:
        self.process, self.built = process, built

    def round(self, seconds: float) -> Round:
        return msgspec.json.decode(_ask(self.process, msgspec.json.encode(seconds)), type=Round)


@contextmanager
def evaluator(job: Job, package: Path | None = None) -> Iterator[Evaluator]:
    """A process that has built the set; `package` is a folder to take the package from."""
    command = [sys.executable, "-m", "sconto.bench.evaluator"]
    env = None if package is None else {**os.environ, "PYTHONPATH": str(package.absolute())}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    try:
        built = msgspec.json.decode(_ask(process, msgspec.json.encode(job)), type=Built)
        yield Evaluator(process, built)
    finally:
        process.kill()
        process.communicate()


def _ask(process: "subprocess.Popen[bytes]", question: bytes) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the evaluator has no pipes")
    process.stdin.write(question + b"\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError("an evaluator ended, see above")
    return answer


def times_of(times_us: list[float]) -> Times:
    """Median and p99; the p99 of fewer than a hundred is the largest."""
    ordered = sorted(times_us)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return Times(median_us=median(ordered), p99_us=p99, count=len(ordered))


def _documents(job: Job) -> Iterator[bytes]:
    if job.recipe is not None:
        yield from documents(job.recipe, job.size)
    else:
        for product in job.products[: job.size]:
            yield encode_terms(two_of(f"two-of-{product}", product))


def _build(job: Job) -> tuple[PromotionIndex, float]:
    index, made, seconds = PromotionIndex(), _documents(job), 0.0
    while batch := list(islice(made, _BATCH)):
        started = time.perf_counter()
        for document in batch:
            terms = decode_terms(document)
            index.add(terms, terms_digest(terms))
        seconds += time.perf_counter() - started
    return index, seconds


def _memory_mb() -> float:
    """Resident memory of this process now, where the system tells (Linux)."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1]) / 1024
    return 0.0


def _compiled_modules() -> int:
    ours = [one for name, one in sys.modules.items() if name.startswith("sconto.")]
    return sum(not str(getattr(one, "__file__", None)).endswith(".py") for one in ours)


def _measure(
    carts: list[Cart], index: PromotionIndex, seconds: float, nothing: PromotionIndex
) -> tuple[list[float], list[float]]:
    """Times with and without promotions, alternating."""
    times: list[float] = []
    noops: list[float] = []
    clock, end = time.perf_counter_ns, time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        for cart in carts:
            started = clock()
            evaluate(cart, index, at_ms=_AT_MS)
            times.append((clock() - started) / 1000)
            started = clock()
            evaluate(cart, nothing, at_ms=_AT_MS)
            noops.append((clock() - started) / 1000)
    return times, noops


def main() -> None:
    """Build, answer, measure as often as asked."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    index, compile_s = _build(job)
    gc.collect()
    memory_mb = _memory_mb()
    carts = [decode_cart(cart.encode()) for cart in job.carts]
    big = decode_cart(job.big_cart.encode()) if job.big_cart else None
    counts = [len(index.candidates(Basket(cart, STRANGER, _AT_MS))) for cart in carts]
    answers = [evaluate(cart, index, at_ms=_AT_MS) for cart in carts]
    ten = [cart for cart, count in zip(carts, counts, strict=True) if count == CANDIDATES]
    applied = [len(x.applied) for x, n in zip(answers, counts, strict=True) if n == CANDIDATES]
    big_answer = evaluate(big, index, at_ms=_AT_MS) if big else None
    built = Built(
        compile_s=compile_s,
        memory_mb=memory_mb,
        promotions=len(index),
        compiled_modules=_compiled_modules(),
        candidates=fmean(counts),
        carts_of_ten=len(ten),
        applied_of_ten=fmean(applied) if applied else 0.0,
        big_candidates=len(index.candidates(Basket(big, STRANGER, _AT_MS))) if big else 0,
        big_applied=len(big_answer.applied) if big_answer else 0,
        discounts=tuple(answer.discount_minor for answer in answers),
    )
    sys.stdout.buffer.write(msgspec.json.encode(built) + b"\n")
    sys.stdout.buffer.flush()
    nothing = PromotionIndex()
    for line in sys.stdin.buffer:
        seconds = msgspec.json.decode(line, type=float)
        every, _ = _measure(carts, index, seconds / 2, nothing)
        of_ten, noops = _measure(ten or carts, index, seconds, nothing)
        of_big = _measure([big], index, seconds, nothing)[0] if big else None
        measured = Round(
            noop=times_of(noops),
            ten=times_of(of_ten) if ten else None,
            every=times_of(every),
            big=times_of(of_big) if of_big else None,
        )
        sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
