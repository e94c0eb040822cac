"""Killed at each sync: the N-th fsync or fdatasync of a process never returns, for N = 1, 2, …

`strace` kills the process as it enters the call. Control: a merchant that acknowledges before it
commits.
"""

import asyncio
import shutil
import time
from pathlib import Path

from sconto.base.errors import UnavailableError
from sconto.torture.alone import CONTROL, Alone, alone, rounds_of
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, skipped

CAP = 1000
CONTROL_ROUNDS = 12
#: Seconds in which the load reaches the N-th sync.
REACHED_S = 60.0


def traced(number: int) -> list[str]:
    """What kills a process at its N-th sync."""
    inject = f"inject=fsync,fdatasync:signal=SIGKILL:when={number}"
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", inject]


async def kill_at_sync(one: Alone, number: int) -> None:
    """Restart under strace, let the load run until that sync, restart without."""
    shop = one.shop
    shop.kill()
    shop.prefix = traced(number)
    shop.start()
    deadline = time.monotonic() + REACHED_S
    while shop.is_running:
        if time.monotonic() > deadline:
            raise UnavailableError(f"the process makes no {number} syncs: {shop.last_words()}")
        await asyncio.sleep(0.01)
    shop.prefix = ()
    await one.restart()


async def syncs(options: Options, folder: Path) -> Outcome:
    """`--rounds` sync points."""
    if shutil.which("strace") is None:
        return skipped("syncs", "strace is not installed (apt-get install strace)")
    bound = Bound(options)

    async def trial(name: str, rounds: int, flaw: str | None) -> Trial:
        async with alone(folder / name, cap=CAP, flaw=flaw, seed=options.seed) as one:
            return await rounds_of(one, kill_at_sync, rounds, bound, name)

    control = await trial(f"syncs{CONTROL}", CONTROL_ROUNDS, "hasty")
    kept = await trial("syncs", options.rounds, None)
    return outcome("syncs", bound, kept, control, of=options.rounds)
