"""The last unit: 64 buyers ask for it at the same moment, and one of them gets it; again and again.

Each round the budget is topped up by one unit. Control: a merchant that takes units from an
allotment whether they are there or not. `last` is one process on SQLite, `last-shared` are four
processes on one PostgreSQL.
"""

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from sconto.base.errors import ScontoError, UnavailableError
from sconto.client import MerchantClient
from sconto.torture import stored
from sconto.torture.alone import CONTROL
from sconto.torture.observer import Answer, lost, read_answer
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, say, skipped
from sconto.torture.places import CODE, PROMOTION, Place, make_place, sell_alone
from sconto.torture.postgres import new_database, why_no_database
from sconto.torture.proxy import read_message

BUYERS = 64
PROCESSES = 4
CONTROL_ROUNDS = 3
#: Seconds until a round is answered; a buyer who is told to come back does so after a pause.
ROUND_S = 60.0
AGAIN_S = 0.05
SAY_EVERY = 100


class Buyer:
    """One connection, kept open, on which one order at a time is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes):
        self.reader, self.writer, self.head = reader, writer, head

    @classmethod
    async def of(cls, shop: Place) -> "Buyer":
        host, _, port = shop.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /v1/redemptions HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Authorization: Bearer {shop.api_key}\r\nContent-Type: application/json\r\n"
        )
        return cls(reader, writer, head.encode())

    async def order(self, order_id: str) -> Answer:
        """Send an order until it is answered for good."""
        lines = [{"id": "1", "sku": "a", "quantity": 2, "price_minor": 500}]
        cart = {"currency": "USD", "lines": lines, "codes": [CODE]}
        body = msgspec.json.encode({"order_id": order_id, "cart": cart})
        while True:
            length = f"Content-Length: {len(body)}\r\n\r\n".encode()
            self.writer.write(self.head + length + body)
            head, _, answer = (await read_message(self.reader)).partition(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status < 500:
                return read_answer(status, answer)
            await asyncio.sleep(AGAIN_S)


async def last(options: Options, folder: Path) -> Outcome:
    """`--last` rounds on SQLite."""
    return await _campaign("last", options, folder, is_shared=False)


async def last_shared(options: Options, folder: Path) -> Outcome:
    """`--last` rounds on PostgreSQL, with four processes."""
    if why := why_no_database():
        return skipped("last-shared", why)
    return await _campaign("last-shared", options, folder, is_shared=True)


async def _campaign(name: str, options: Options, folder: Path, *, is_shared: bool) -> Outcome:
    bound = Bound(options)
    control = await _trial(
        folder / "control", f"{name}{CONTROL}", CONTROL_ROUNDS, "generous", bound
    )
    async with AsyncExitStack() as stack:
        url, processes = None, 1
        if is_shared:
            url, processes = stack.enter_context(new_database(is_hasty=False)).url, PROCESSES
        trial = await _trial(folder / name, name, options.last, None, bound, url, processes)
    return outcome(name, bound, trial, control, of=options.last)


async def _trial(
    home: Path,
    name: str,
    rounds: int,
    flaw: str | None,
    bound: Bound,
    database_url: str | None = None,
    processes: int = 1,
) -> Trial:
    shop = make_place("merchant", home, database_url=database_url)
    trial, buyers = Trial(), list[Buyer]()
    try:
        await shop.start_again()
        await sell_alone(shop, cap=1)
        shop.stop()
        shop.flaw, shop.processes = flaw, processes
        await shop.start_again()
        buyers += [await Buyer.of(shop) for _ in range(BUYERS)]
        await _rounds(trial, shop, buyers, rounds, bound, name)
    except (ScontoError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        trial.errors.append(f"{type(error).__name__}: {error}"[:300])
    finally:
        for buyer in buyers:
            buyer.writer.close()
        shop.kill()
        shutil.rmtree(home, ignore_errors=True)
    return trial


async def _rounds(
    trial: Trial, shop: Place, buyers: Sequence[Buyer], rounds: int, bound: Bound, name: str
) -> None:
    won: set[str] = set()
    async with MerchantClient(shop.address, shop.api_key) as merchant:
        for number in range(1, rounds + 1):
            if bound.is_over:
                break
            if number > 1:
                await merchant.top_up(PROMOTION, f"unit-{number}", uses=1)
            orders = [f"o-{number}-{i}" for i in range(len(buyers))]
            async with asyncio.timeout(ROUND_S):
                answers = await asyncio.gather(*map(Buyer.order, buyers, orders))
            winners = [i for i, answer in enumerate(answers) if answer.redemption_ids]
            won.update(one for answer in answers for one in answer.redemption_ids)
            trial.rounds = number
            trial.acknowledged += len(answers)
            trial.overspent += max(0, len(winners) - 1)
            if strange := {answer.status for answer in answers} - {200, 201}:
                raise UnavailableError(f"round {number} was answered with {sorted(strange)}")
            if not winners:
                trial.broken.append(f"nobody got the unit of round {number}")
            # A winner who asks again, on another buyer's connection, is told the same.
            for i in winners[:1]:
                again = await buyers[number % len(buyers)].order(orders[i])
                trial.changed += again.digest != answers[i].digest
            if number % SAY_EVERY == 0:
                say(f"{name}: {number}/{rounds}, {len(won)} winners")
            if trial.broken or (trial.overspent and name.endswith(CONTROL)):
                return
    shop.stop()
    found = stored.read(shop.database_url)
    trial.lost = len(lost(won, found.redemptions))
    if len(found.redemptions) != trial.rounds:
        trial.broken.append(f"{len(found.redemptions)} redemptions in {trial.rounds} rounds")
    if wrong := shop.check():
        trial.broken.append(wrong)
    trial.figures["winners"] = len(won)
