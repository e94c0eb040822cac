"""A server with one safeguard taken out: what the checks must notice. For controls only.

python -m sconto.torture.faulty FLAW hub|merchant HOME [HOST:PORT]
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from sconto.base.errors import PeerError
from sconto.servers.config import Home
from sconto.servers.merchant import spending
from sconto.servers.serve import make_server, serve
from sconto.simulate.ablations import ABLATIONS
from sconto.simulate.world import World
from sconto.store import exchange
from sconto.store.schema import outbox
from sconto.store.writer import Tx, _release

#: Seconds between the acknowledgement and the commit of a hasty server.
HASTE_S = 0.02


def hasty(home: Home) -> Any:
    """It acknowledges first, and commits a little later."""
    server = make_server(home)
    store = server.base.store
    run = store._run_command

    def acknowledge(tx: Tx, job: Any) -> Any:
        reply = run(tx, job)
        _release([reply])
        return reply

    def linger(point: str) -> None:
        if point == "committing":
            time.sleep(HASTE_S)

    store._run_command = acknowledge
    store.on_point = linger
    return server


def generous(home: Home) -> Any:
    """Beside the guard it leaves out the budget, whose constraint would refuse what is too much."""
    spending.settle_own = lambda *_: None
    return make_server(home)


def unsynced(home: Home) -> Any:
    """SQLite does not wait for the disk."""
    server = make_server(home)
    connection = server.base.store._connection.connection.driver_connection
    connection.execute("PRAGMA synchronous=OFF")
    return server


def forgetful(home: Home) -> Any:
    """It gives up events that could not be delivered at the first try."""
    server = make_server(home)
    start = server.start

    async def start_forgetful() -> None:
        await start()
        deliverer, store = server.base.deliverer, server.base.store
        send = deliverer._send_batch

        def forget(tx: Tx, destination: str) -> None:
            stream = exchange.stream_to(tx.connection, destination)
            number, name = stream.last_sequence, stream.stream
            exchange.acknowledge(tx.connection, destination, number, name)
            tx.connection.execute(sa.delete(outbox).where(outbox.c.destination == destination))

        async def send_once(destination: str) -> bool:
            try:
                return bool(await send(destination))
            except PeerError:
                await store.write(lambda tx: forget(tx, destination))
                return False

        deliverer._send_batch = send_once

    server.start = start_forgetful
    return server


#: How the server is made, and in what it runs.
FLAWS: dict[str, tuple[Callable[[Home], Any], str | None]] = {
    "hasty": (hasty, None),
    "unsynced": (unsynced, None),
    "generous": (generous, "guard"),
    "forgetful": (forgetful, None),
    "inbox": (make_server, "inbox"),
    "guard": (make_server, "guard"),
}


def main(arguments: Sequence[str]) -> None:
    """Serve a home with a flaw."""
    flaw, kind, home, *bind = arguments
    make, ablation = FLAWS[flaw]
    context: AbstractContextManager[None] = nullcontext()
    if ablation is not None:
        context = ABLATIONS[ablation](cast(World, None))  # these do not look at the world
    with context:
        serve(Path(home), kind, bind=bind[0] if bind else None, log_level="warning", make=make)


if __name__ == "__main__":
    main(sys.argv[1:])
