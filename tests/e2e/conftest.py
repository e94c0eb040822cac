"""Real processes: a hub, two merchants and a wallet server, as the demo starts them."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sconto.demo.live import Live, publish_live
from sconto.demo.network import Network, make_network

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Town:
    """A running network with a live promotion."""

    network: Network
    live: Live | None
    loop: asyncio.AbstractEventLoop

    def run(self, coroutine):
        """Run something in the town's own event loop; the browser has the one of this thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(120)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder: Path = tmp_path_factory.mktemp("town")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="town")
    thread.start()
    network = make_network(folder, merchants=2)
    town = Town(network, None, loop)
    try:
        town.run(network.start())
        town.live = town.run(publish_live(network))
        yield town
    finally:
        town.run(network.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
