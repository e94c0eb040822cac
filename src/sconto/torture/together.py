"""A trial of a hub and merchants: load at the merchants, and the hub's books in the end."""

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from sconto.base.errors import ScontoError
from sconto.torture import stored
from sconto.torture.load import Load
from sconto.torture.observer import Observer, folder_elsewhere, lost, overspent
from sconto.torture.outcome import Trial
from sconto.torture.places import PROMOTION, Place, introduce, make_place
from sconto.torture.stored import Stored

#: Seconds in which everything is settled once nothing is in the way.
SETTLED_S = 30.0


@dataclass
class Together:
    """A hub and its merchants under load."""

    hub: Place
    shops: Sequence[Place]
    cap: int
    observer: Observer
    load: Load
    random: random.Random
    #: Whether it runs with a flaw, and ends as soon as that has shown.
    is_control: bool = False
    trial: Trial = field(default_factory=Trial)
    #: Redemptions that a lost disk may have been the last to know of.
    forgotten: set[str] = field(default_factory=set)

    async def at_hub(self) -> Stored:
        return await asyncio.to_thread(stored.read, self.hub.database_url)

    async def settled(self) -> float:
        """Wait until the hub has every redemption acknowledged before now; seconds that it took.

        What does not come in time, or is no merchant's to tell any more, is lost.
        """
        start = time.monotonic()
        wanted = {one for i in self._living() for one in self.observer.redemptions(i)}
        wanted -= self.forgotten
        while True:
            is_all_told = not await self._untold()
            self.trial.lost = len(lost(wanted, (await self.at_hub()).redemptions))
            seconds = time.monotonic() - start
            if not self.trial.lost or is_all_told or seconds > SETTLED_S:
                return seconds
            await asyncio.sleep(0.1)

    def _living(self) -> list[int]:
        return [i for i in range(len(self.shops)) if i not in self.load.gone]

    async def _untold(self) -> int:
        """How many events wait for the hub."""
        urls = [self.shops[i].database_url for i in self._living()]
        return sum([await asyncio.to_thread(stored.untold, url) for url in urls])

    async def finish(self) -> None:
        """Everything is answered, settled, within the cap, and the books balance."""
        trial, observer = self.trial, self.observer
        await self.load.settle()
        seconds = await self.settled()
        trial.figures["settled_after_s"] = round(seconds, 1)
        if self.is_control and not trial.holds:
            return
        trial.changed = await self.load.repeat()
        redeemed = observer.redemptions()
        trial.overspent = overspent(redeemed, observer.reversed_redemptions(), self.cap)
        trial.figures["redemptions"] = len(redeemed)
        trial.broken += await self._books()
        # In threads: what a server waits for at its end may stand in our own loop.
        places = (self.hub, *self.shops)
        await asyncio.gather(*(asyncio.to_thread(place.stop) for place in places))
        found = await asyncio.gather(*(asyncio.to_thread(place.check) for place in places))
        pairs = zip(places, found, strict=True)
        trial.broken += [f"{place.home.name}: {wrong}" for place, wrong in pairs if wrong]

    async def _books(self) -> list[str]:
        """What is wrong with the hub's books, once it has heard of the last reversal."""
        deadline = time.monotonic() + SETTLED_S
        is_whole = not self.load.gone and not self.forgotten
        while True:
            is_all_told = not await self._untold()
            hub = await self.at_hub()
            wrong = unbalanced(hub, self.observer if is_whole else None, self.cap)
            if not wrong or is_all_told or time.monotonic() > deadline:
                return wrong
            await asyncio.sleep(0.2)


def unbalanced(hub: Stored, observer: Observer | None, cap: int) -> list[str]:
    """What is wrong with a hub's books; by the observer's history too, where no disk was lost."""
    wrong = [f"parked: {reason}" for reason in hub.parked if observer or not _is_repeat(reason)]
    accounts = hub.budgets[PROMOTION, ""]
    parts = sum(accounts[name] for name in ("free", "open", "spent", "written_off"))
    if accounts["cap"] != cap or parts != cap:
        wrong.append(f"the accounts do not add up: {accounts}")
    states = list(hub.redemptions.values())
    if states.count("redeemed") != accounts["spent"]:
        wrong.append(f"{accounts['spent']} are spent, {states.count('redeemed')} redeemed")
    if disputed := states.count("disputed"):
        wrong.append(f"{disputed} redemptions are disputed")
    if observer is None:
        return wrong
    # Every order is answered by now, so the history is complete and the counts are exact.
    told = {
        "redeemed": len(observer.redemptions()),
        "reversed": len(observer.reversed_redemptions()),
        "refused": observer.refusals(),
    }
    counted = {kind: hub.entries.get(kind, 0) for kind in told}
    if counted != told:
        wrong.append(f"the hub counts {counted}, the observer {told}")
    return wrong


def _is_repeat(reason: str) -> bool:
    """A restored merchant tells again what it does not know to have told; the hub knows it."""
    return reason.startswith("duplicate:")


@asynccontextmanager
async def together(
    hub: Place,
    shops: Sequence[Place],
    *,
    cap: int,
    flaw: str | None = None,
    hub_flaw: str | None = None,
    buyers: int = 6,
    seed: int = 1,
) -> AsyncIterator[Together]:
    """Start a hub and merchants, introduce them, and let buyers in.

    The flaws are of the merchants and of the hub.
    """
    elsewhere = folder_elsewhere(hub.home)
    observer = Observer(elsewhere / "history.jsonl")
    places = [hub, *shops]
    try:
        for place in places:
            place.start()
        for place in places:
            await place.ready()
        await introduce(hub, shops, cap)
        hub.flaw = hub_flaw
        for shop in shops:
            shop.flaw = flaw
        for place in places:
            if place.flaw is not None:
                await asyncio.to_thread(place.stop)
                await place.start_again()
        async with Load(observer, shops, buyers=buyers, seed=seed) as load:
            is_control = flaw is not None or hub_flaw is not None
            yield Together(
                hub, shops, cap, observer, load, random.Random(seed), is_control=is_control
            )
    finally:
        for place in places:
            place.kill()
        observer.close()
        shutil.rmtree(elsewhere, ignore_errors=True)


def neighbours(folder: Path, shops: int) -> tuple[Place, list[Place]]:
    """Homes of a hub and merchants with nothing between them."""
    hub = make_place("hub", folder / "hub")
    return hub, [make_place("merchant", folder / f"shop-{i}") for i in range(shops)]


@asynccontextmanager
async def judged(net: Together) -> AsyncIterator[None]:
    """An error in it is noted: it proves nothing. What was acknowledged is counted at the end."""
    try:
        yield
    except (ScontoError, DBAPIError) as error:
        net.trial.errors.append(str(error)[:300])
    net.trial.acknowledged = len(net.observer.acknowledged)
