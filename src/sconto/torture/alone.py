"""A trial of one merchant without any hub: load, one fault after another, and the checks."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from sconto.base.errors import ScontoError
from sconto.torture import stored
from sconto.torture.load import Load
from sconto.torture.observer import Observer, folder_elsewhere, lost, overspent
from sconto.torture.outcome import Bound, Trial, say
from sconto.torture.places import Place, make_place, sell_alone


@dataclass
class Alone:
    """One merchant under load."""

    shop: Place
    cap: int
    observer: Observer
    load: Load
    random: random.Random
    trial: Trial = field(default_factory=Trial)
    missing: set[Any] = field(default_factory=set)

    async def restart(self) -> None:
        """Start the merchant again, and note how long it was until it answered."""
        seconds = await self.shop.start_again()
        figures = self.trial.figures
        figures["restart_s_max"] = round(max(figures.get("restart_s_max", 0.0), seconds), 2)

    async def look(self) -> None:
        """What was acknowledged before this moment is in the datastore."""
        orders, reversals = self.observer.orders(), self.observer.reversals()
        found = await asyncio.to_thread(stored.read, self.shop.database_url)
        self.missing.update(lost(orders, found.orders))
        self.missing.update(lost(reversals, found.reversals))
        self.trial.lost = len(self.missing)

    async def finish(self) -> None:
        """Everything is answered, there, within the cap, and repeats alike; the books are whole."""
        trial, observer = self.trial, self.observer
        await self.load.settle()
        await self.look()
        trial.changed = await self.load.repeat()
        redeemed = observer.redemptions()
        trial.overspent = overspent(redeemed, observer.reversed_redemptions(), self.cap)
        trial.figures["redemptions"] = len(redeemed)
        self.shop.stop()
        if wrong := await asyncio.to_thread(self.shop.check):
            trial.broken.append(wrong)


@asynccontextmanager
async def alone(
    folder: Path,
    *,
    cap: int,
    flaw: str | None = None,
    database_url: str | None = None,
    data: Path | None = None,
    seed: int = 1,
) -> AsyncIterator[Alone]:
    """A merchant that sells a promotion of its own, and its buyers.

    `data` is where the datastore's files are, where that is not the home.
    """
    shop = make_place("merchant", folder / "shop", database_url=database_url)
    elsewhere = folder_elsewhere(data or shop.home)
    observer = Observer(elsewhere / "history.jsonl")
    try:
        await shop.start_again()
        await sell_alone(shop, cap)
        if flaw is not None:
            shop.stop()
            shop.flaw = flaw
            await shop.start_again()
        async with Load(observer, [shop], seed=seed) as load:
            yield Alone(shop, cap, observer, load, random.Random(seed))
    finally:
        shop.kill()
        observer.close()
        shutil.rmtree(elsewhere, ignore_errors=True)


#: One fault, after which the merchant stands again: (trial, number of the round from 1).
Fault = Callable[[Alone, int], Awaitable[None]]
SAY_EVERY = 10


async def rounds_of(one: Alone, fault: Fault, rounds: int, bound: Bound, name: str) -> Trial:
    """Faults under load, with a look after each, and the end.

    A control (a server with a flaw) ends as soon as it has failed.
    """
    trial = one.trial
    try:
        for number in range(1, rounds + 1):
            if bound.is_over:
                break
            await one.load.acknowledges(5)
            await asyncio.sleep(one.random.uniform(0.0, 0.4))
            await fault(one, number)
            await one.look()
            trial.rounds = number
            if number % SAY_EVERY == 0 or not trial.holds:
                say(f"{name}: {number}/{rounds}, {len(one.observer.acknowledged)} acknowledged, "
                    f"{trial.lost} lost")  # fmt: skip
            if not trial.holds and name.endswith(CONTROL):
                break
        if trial.holds or not name.endswith(CONTROL):
            await one.finish()
    except (ScontoError, DBAPIError) as error:
        trial.errors.append(str(error)[:300])
    trial.acknowledged = len(one.observer.acknowledged)
    return trial


#: How the name of a control ends.
CONTROL = " (control)"
