"""Homes with promotions in them, and servers in processes of their own.

python -m sconto.bench.network merchant|naive|noop HOME      is such a process
"""

import contextlib
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sconto.base.keys import sign_detached
from sconto.bench.figures import say
from sconto.bench.load import Place
from sconto.ledger import UNLIMITED, Amounts
from sconto.servers.app import Base, wall_clock_ms
from sconto.servers.config import Home, create_home
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.servers.merchant import Merchant
from sconto.servers.principal import make_api_key
from sconto.servers.promotions import TERMS_TYPE
from sconto.servers.serve import serve
from sconto.store import access, ledger, promotions
from sconto.store.writer import Tx
from sconto.terms import Terms, encode_terms, terms_digest

START_S = 60.0
STOP_S = 30.0
TENANT = "shop"
_PROMOTIONS_PER_COMMIT = 500
_SCOPES = frozenset({"evaluate", "checkout"})


@endpoint("POST", "/v1/noop", scope="evaluate", summary="Read the body, answer a fixed document")
async def noop(server: Any, call: Call) -> Answer:
    return _NOTHING


_NOTHING = Answer(b'{"status":"nothing"}')


class NoOp:
    """A server with the edge of all servers (reading, API keys, logs) and nothing behind it."""

    endpoints = (noop,)

    def __init__(self, home: Home) -> None:
        self.base = Base(home)
        self.event_handlers: dict[str, Any] = {}

    async def start(self) -> None:
        await self.base.start()

    async def stop(self) -> None:
        await self.base.stop()

    def peer_added(self, tx: Tx, peer: access.Peer) -> None:
        """It has no use for peers."""


def prepare(folder: Path, terms: Sequence[Terms] = (), database_url: str | None = None) -> Place:
    """A merchant's home with active promotions of its own, and an API key for a till.

    On SQLite in that folder where no other database is given.
    """
    port = _free_port()
    now_ms = wall_clock_ms()
    home = create_home(
        folder,
        kind="merchant",
        name="Bench",
        url=f"http://127.0.0.1:{port}",
        now_ms=now_ms,
        random=secrets.token_bytes,
        database_url=database_url,
    )
    merchant = Merchant(home)

    def admit(tx: Tx) -> str:
        access.add_tenant(tx, TENANT, "merchant", "Bench")
        return make_api_key(tx, TENANT, _SCOPES, "till", secrets.token_bytes)

    try:
        api_key = merchant.base.store.write_now(admit)
        for start in range(0, len(terms), _PROMOTIONS_PER_COMMIT):
            some = terms[start : start + _PROMOTIONS_PER_COMMIT]
            merchant.base.store.write_now(partial(_publish, merchant, some))
    finally:
        merchant.base.close()
    return Place(host="127.0.0.1", port=port, api_key=api_key)


def _publish(merchant: Merchant, several: Sequence[Terms], tx: Tx) -> None:
    """What `POST /v1/promotions` does, without the requests."""
    for terms in several:
        document = encode_terms(terms)
        version = promotions.Version(
            terms.promotion_id,
            terms.version,
            terms_digest(terms),
            document,
            sign_detached(merchant.base.home.key, TERMS_TYPE, document),
        )
        promotions.save(tx, version, tenant_id=TENANT, hub=None, status="active", is_accepted=True)
        uses, minor = terms.budget()
        cap = Amounts(uses or UNLIMITED, minor or UNLIMITED)
        ledger.open_budget(tx, terms.promotion_id, cap, version.terms_digest)
        merchant.promotion_opened(tx, terms.promotion_id, cap)


@contextlib.contextmanager
def running(
    kind: str, folder: Path, place: Place, processes: int = 1
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of a kind above, from its first accepted connection to its stop.

    With several `processes` it is a merchant, as its command serves it.
    """
    command = ["sconto.bench.network", kind, str(folder)]
    if processes > 1:
        command = ["sconto", kind, "serve", "--home", str(folder), "--processes", str(processes)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *command], stderr=log)
        try:
            _wait_until_ready(process, folder, place)
            yield process
        except RuntimeError:
            say(_complaints(folder))
            raise
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path, place: Place) -> None:
    until = time.monotonic() + START_S
    request = b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
    while time.monotonic() < until and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((place.host, place.port), timeout=5) as connection,
        ):
            connection.sendall(request)
            if b" 200 " in connection.recv(4096)[:20]:
                return
        time.sleep(0.05)
    said = (folder / "server.log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the server in {folder} did not start:\n{said}")


def _complaints(folder: Path) -> str:
    """What the server logged as warnings and worse, the last of it."""
    lines = (folder / "server.log").read_text(errors="replace").splitlines()
    return "\n".join([one for one in lines if '"level":"info"' not in one][-5:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    what, where = sys.argv[1:]
    if what == "noop":
        serve(Path(where), "merchant", make=NoOp)
    elif what == "naive":
        from sconto.bench.naive import Naive

        serve(Path(where), "merchant", make=Naive)
    else:
        serve(Path(where), "merchant")
