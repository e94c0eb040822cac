"""A full disk: no yes that is not stored, no half of anything, reads go on, and it recovers.

The datastore lies on a small tmpfs that a ballast file fills up. Control: a merchant that
acknowledges before it commits. Needs root.
"""

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sconto.base.errors import UnavailableError
from sconto.client import MerchantClient
from sconto.torture.alone import CONTROL, Alone, alone, rounds_of
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, skipped
from sconto.torture.power import run, why_not

CAP = 1000
CONTROL_ROUNDS = 3
DISK_BYTES = 96 << 20
FULL_S = 20.0
#: Temporary answers that a full disk may give.
STATUSES = (503, 507)


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[Path]:
    """A small tmpfs."""
    mounted_at = folder / "small"
    mounted_at.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mounted_at))
    try:
        yield mounted_at
    finally:
        await asyncio.sleep(0.2)
        run("umount", "-l", str(mounted_at))


def fill(ballast: Path) -> None:
    """Take every byte that is left."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


async def full(one: Alone, ballast: Path) -> None:
    """Full until somebody was told so, then free again."""
    observer = one.observer

    def told() -> int:
        return sum(observer.statuses.get(status, 0) for status in STATUSES)

    before = told()
    await asyncio.to_thread(fill, ballast)
    deadline = time.monotonic() + FULL_S
    while told() < before + 10:
        if time.monotonic() > deadline:
            raise UnavailableError(f"nobody is told of a full disk: {observer.statuses}")
        if not one.shop.is_running:
            raise UnavailableError(f"the merchant ended: {one.shop.last_words()}")
        await asyncio.sleep(0.1)
        await one.look()
        if one.trial.lost:
            return
    async with MerchantClient(one.shop.address, one.shop.api_key) as client:
        order_id = next(iter(observer.orders()))
        await client.order(order_id)
        await client.evaluate({"currency": "USD", "lines": []})
    await one.look()
    ballast.unlink()
    await one.load.acknowledges(20)
    if wrong := sorted(set(observer.statuses) - {200, 201, *STATUSES}):
        raise UnavailableError(f"a full disk was answered with {wrong}")
    one.trial.figures["told"] = told()


async def disk(options: Options, folder: Path) -> Outcome:
    """A quarter of `--rounds`: it fills and is freed again."""
    if why := why_not("mount", "umount"):
        return skipped("disk", why)
    bound = Bound(options)

    async def trial(name: str, rounds: int, flaw: str | None) -> Trial:
        async with small_disk(folder / name) as mounted_at:

            async def fault(one: Alone, number: int) -> None:
                await full(one, mounted_at / "ballast")

            async with alone(
                folder / name,
                cap=CAP,
                flaw=flaw,
                database_url=f"sqlite:///{mounted_at / 'sconto.db'}",
                data=mounted_at,
                seed=options.seed,
            ) as one:
                return await rounds_of(one, fault, rounds, bound, name)

    control = await trial(f"disk{CONTROL}", CONTROL_ROUNDS, "hasty")
    rounds = max(1, options.rounds // 4)
    return outcome("disk", bound, await trial("disk", rounds, None), control, of=rounds)
