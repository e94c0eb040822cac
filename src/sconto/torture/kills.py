"""kill -9 of a merchant on SQLite, at random moments under load.

Control: a merchant that acknowledges before it commits. (One that commits without waiting for the
disk would lose nothing: what a process has written is the kernel's, and survives it. That is for
`power.py`.)
"""

from pathlib import Path

from sconto.torture.alone import CONTROL, Alone, alone, rounds_of
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome

#: A promotion that is used up in the middle of a long trial.
CAP = 3000
CONTROL_ROUNDS = 10


async def kill(one: Alone, number: int) -> None:
    """Kill and restart."""
    one.shop.kill()
    await one.restart()


async def kills(options: Options, folder: Path) -> Outcome:
    """`--kills` kills."""
    bound = Bound(options)

    async def trial(name: str, rounds: int, flaw: str | None) -> Trial:
        async with alone(folder / name, cap=CAP, flaw=flaw, seed=options.seed) as one:
            return await rounds_of(one, kill, rounds, bound, name)

    control = await trial(f"kills{CONTROL}", CONTROL_ROUNDS, "hasty")
    kept = await trial("kills", options.kills, None)
    return outcome("kills", bound, kept, control, of=options.kills)
