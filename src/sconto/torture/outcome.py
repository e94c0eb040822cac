"""What a campaign gives, how it is told, and what it is asked for."""

import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything. A campaign begins no round after `minutes`."""

    minutes: float = 6.0
    kills: int = 100
    cuts: int = 40
    partitions: int = 60
    #: Rounds of the campaigns that are about something else.
    rounds: int = 20
    #: Rounds of buyers who all want the last unit.
    last: int = 1000
    cap: int = 10_000
    #: Seconds that the hub is away in the campaign about a cap.
    away_s: float = 60.0
    seed: int = 1


class Trial(msgspec.Struct, kw_only=True):
    """What was found of one server or network under faults."""

    rounds: int = 0
    acknowledged: int = 0
    #: Acknowledged, and missing later.
    lost: int = 0
    #: Redemptions above a cap, net of reversals.
    overspent: int = 0
    #: Repeated requests that were answered otherwise than before.
    changed: int = 0
    #: What else did not hold, in words.
    broken: list[str] = msgspec.field(default_factory=list)
    #: Why it could not go on: that says nothing about promises, so it is no proof for a control.
    errors: list[str] = msgspec.field(default_factory=list)
    #: What is worth telling.
    figures: dict[str, float] = msgspec.field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.overspent or self.changed or self.broken)


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The line of a campaign."""

    campaign: str
    rounds: int
    #: How many it should have been; fewer, where the time was over.
    of: int
    acknowledged: int
    lost: int
    overspent: int
    #: Whether the control failed, as it must; None: the campaign was skipped.
    control: bool | None
    seconds: float
    changed: int = 0
    broken: list[str] = []
    #: Why the trial ended too early, or the control before it had found anything.
    errors: list[str] = []
    figures: dict[str, float] = {}
    #: What the control lost, overspent or broke.
    control_found: str = ""
    skipped: str = ""

    @property
    def is_good(self) -> bool:
        """Kept what was promised to the end, and would have noticed otherwise; or was skipped."""
        if self.skipped:
            return True
        kept = not (self.lost or self.overspent or self.changed or self.broken or self.errors)
        return kept and self.control is True


Campaign = Callable[[Options, Path], Coroutine[Any, Any, Outcome]]


class Bound:
    """The time that a campaign has."""

    def __init__(self, options: Options) -> None:
        self.start = time.monotonic()
        self.until = self.start + options.minutes * 60

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.start, 1)


def outcome(campaign: str, bound: Bound, trial: Trial, control: Trial, *, of: int) -> Outcome:
    """The line of a trial of so many rounds and its control."""
    found = f"lost {control.lost} of {control.acknowledged}, overspent {control.overspent}"
    if control.broken:
        found += f", {control.broken[0]}"
    return Outcome(
        campaign=campaign,
        rounds=trial.rounds,
        of=of,
        acknowledged=trial.acknowledged,
        lost=trial.lost,
        overspent=trial.overspent,
        control=not control.holds,
        seconds=bound.seconds,
        changed=trial.changed,
        broken=trial.broken,
        errors=trial.errors + (control.errors if control.holds else []),
        figures=trial.figures,
        control_found=found,
    )


def skipped(campaign: str, why: str) -> Outcome:
    """The line of a campaign that cannot run here."""
    return Outcome(
        campaign=campaign,
        rounds=0,
        of=0,
        acknowledged=0,
        lost=0,
        overspent=0,
        control=None,
        seconds=0.0,
        skipped=why,
    )


def line(result: Outcome) -> str:
    """One JSON object."""
    return msgspec.json.encode(result).decode()


def say(text: str) -> None:
    """Progress, for whoever waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
