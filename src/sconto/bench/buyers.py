"""The last unit: many buyers ask for it at the same moment, round after round.

Each round has a promotion of its own with a single use, for whoever types its code. All buyers have
an open connection and send their orders at once; an order is a sale whether it gets the promotion
or not, so every answer is 201, and the winner's has a redemption in it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from sconto.bench.load import Connection, Place
from sconto.terms import Terms, terms_from

BUYERS = 64
#: Seconds for a round; nobody should wait so long.
ROUND_S = 60.0


class _Answer(msgspec.Struct):
    redemptions: list[msgspec.Raw]


class Rounds(msgspec.Struct, frozen=True):
    """How many rounds had so many winners."""

    by_winners: dict[int, int]
    seconds: float


def promotions(number: int) -> list[Terms]:
    """The promotions of so many rounds."""
    return [
        terms_from(
            {
                "promotion_id": f"last-{i}",
                "title": "Half a dollar for one buyer",
                "currency": "USD",
                "access": {"type": "code", "code": f"LAST{i}"},
                "benefits": [{"type": "amount_off", "amount_minor": 50}],
                "limits": [{"uses": 1}],
            },
            what="terms",
            field="",
        )
        for i in range(number)
    ]


class _Round:
    """Where the answers of one round arrive."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.winners = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, connection: Connection, status: int, body: bytes) -> None:
        if self.done.done():
            return
        if status != 201:
            said = body[:300].decode("utf-8", "replace")
            self.done.set_exception(RuntimeError(f"a buyer was answered {status}: {said}"))
            return
        self.winners += len(msgspec.json.decode(body, type=_Answer).redemptions)
        self.waiting -= 1
        if not self.waiting:
            self.done.set_result(None)

    def lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the server hung up: {error}"))


def play(place: Place, rounds: int, prefix: str) -> Rounds:
    """All rounds, one after the other."""
    return asyncio.run(_play(place, rounds, prefix))


async def _play(place: Place, rounds: int, prefix: str) -> Rounds:
    loop = asyncio.get_running_loop()
    first = _Round(0)
    connections = [
        (await loop.create_connection(lambda: Connection(first), place.host, place.port))[1]
        for _ in range(BUYERS)
    ]
    by_winners: Counter[int] = Counter()
    begin = time.perf_counter()
    for number in range(rounds):
        one = _Round(BUYERS)
        for buyer, connection in enumerate(connections):
            connection.sender = one
            connection.send(_request(place, f"{prefix}-{number}-{buyer}", number), 0.0)
        await asyncio.wait_for(one.done, ROUND_S)
        by_winners[one.winners] += 1
    seconds = time.perf_counter() - begin
    _leave(connections)
    return Rounds(dict(by_winners), seconds)


def _leave(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.transport.close()


def _request(place: Place, order_id: str, number: int) -> bytes:
    line = {"id": "1", "sku": "plum", "quantity": 1, "amount_minor": 499}
    cart = {"currency": "USD", "lines": [line], "codes": [f"LAST{number}"]}
    body = msgspec.json.encode({"order_id": order_id, "cart": cart})
    head = (
        f"POST /v1/redemptions HTTP/1.1\r\nhost: {place.host}:{place.port}\r\n"
        f"authorization: Bearer {place.api_key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
