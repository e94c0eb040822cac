"""A figure of a benchmark, and the line that it is printed as."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator

import msgspec

#: Of the cores: where more is under way, only ratios tell something.
BUSY = 0.5


class Figure(msgspec.Struct, kw_only=True):
    """One line of the output.

    `target` is about `ratio` where there is one, about `value` otherwise; None: there is none.
    """

    bench: str
    #: None where it could not be measured; `reason` says why.
    value: float | None
    unit: str
    target: float | None = None
    holds: bool | None = None
    ratio: float | msgspec.UnsetType = msgspec.UNSET
    #: Which bench of the same run `ratio` is of.
    ratio_to: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure."""

    #: Of one measurement.
    seconds: float = 5.0
    #: How often each is repeated, alternating with what it is compared with.
    rounds: int = 3
    connections: int = 48


Benchmark = Callable[[Options], Iterator[Figure]]


def at_least(
    bench: str, value: float, unit: str, *, ratio: float, ratio_to: str, target: float | None
) -> Figure:
    """A figure that is a ratio to another, which shall be `target` or more."""
    holds = None if target is None else ratio >= target
    return Figure(
        bench=bench,
        value=round(value, 1),
        unit=unit,
        target=target,
        holds=holds,
        ratio=round(ratio, 3),
        ratio_to=ratio_to,
    )


def at_most(bench: str, value: float, unit: str, *, target: float | None) -> Figure:
    """A figure that shall be `target` or less."""
    holds = None if target is None else value <= target
    return Figure(bench=bench, value=round(value, 2), unit=unit, target=target, holds=holds)


def within(
    bench: str, value: float, unit: str, *, ratio: float, ratio_to: str, target: float | None
) -> Figure:
    """A figure that is a ratio to another, which shall be `target` or less."""
    figure = at_least(bench, value, unit, ratio=ratio, ratio_to=ratio_to, target=target)
    figure.holds = None if target is None else ratio <= target
    return figure


def missing(bench: str, unit: str, reason: str) -> Figure:
    """A figure that could not be measured."""
    return Figure(bench=bench, value=None, unit=unit, reason=reason)


def line(figure: Figure) -> str:
    """The figure as one line of JSON."""
    return msgspec.json.encode(figure).decode()


def say(text: str) -> None:
    """Progress, for whoever waits: to standard error, so that the figures stay alone."""
    print(text, file=sys.stderr, flush=True)


def tell(figures: Iterable[Figure]) -> None:
    """Print each figure as soon as it is there."""
    for figure in figures:
        print(line(figure), flush=True)


def say_if_busy() -> None:
    """Warn whoever starts a benchmark while others use the machine."""
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    if busy > BUSY:
        say(f"This machine is at work already (load {busy:.0%} of its cores): take ratios only.")
