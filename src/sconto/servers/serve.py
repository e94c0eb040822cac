"""Serving: one server, uvicorn in front, in one process or several; it loses nothing at its end.

On SIGTERM or SIGINT it takes no new connection, answers the requests that it has, commits what the
writer has accepted, and ends. A hub has two origins, its own and that of the frames: it listens at
both, unless it stands behind a proxy (`bind`), which sends it both with their own `Host`.

Several processes (`_supervise`) share the address and the database, each with a writer of its own
(`sconto.store.processes`). Their parent holds the home and the sockets, starts again what dies,
and hands on the signals.
"""

import contextlib
import dataclasses
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import uvicorn

from sconto.base.errors import ConflictError, InvalidInputError
from sconto.servers.app import build_app
from sconto.servers.config import Home, load_home, lock_home
from sconto.servers.logs import start_logging
from sconto.servers.protocol import BoundedProtocol
from sconto.store.database import migrate

log = logging.getLogger("sconto.server")

#: Seconds that requests under way get to finish.
GRACE_S = 20
BACKLOG = 1024
SWITCH_INTERVAL_S = 0.0005
#: A process is not started again sooner than this after its last start.
AGAIN_S = 1.0
#: How often a process looks whether its parent is still there.
PARENT_PERIOD_S = 0.5
_ENDING = (signal.SIGINT, signal.SIGTERM)
#: Objects that come to be between two looks for cycles; Python's own 700 are a few requests.
GC_THRESHOLD = 20_000


def make_server(home: Home) -> Any:
    """The hub, merchant or wallet of a home."""
    if home.kind == "hub":
        from sconto.servers.hub import Hub

        return Hub(home)
    if home.kind == "merchant":
        from sconto.servers.merchant import Merchant

        return Merchant(home)
    from sconto.servers.wallet import Wallet

    return Wallet(home)


def serve(
    folder: Path,
    kind: str,
    *,
    bind: str | None = None,
    log_level: str = "info",
    processes: int = 1,
    make: Callable[[Home], Any] = make_server,
) -> None:
    """Serve a home until a signal comes, at `bind` (host:port), else at the address of its URLs.

    `processes`: how many of a merchant's share the work; more than one need PostgreSQL. `make`
    makes the server of the home.

    Raises ConflictError when the address or the home is in use, InvalidInputError where several
    processes cannot be.
    """
    home = load_home(folder, kind)
    if processes > 1:
        _check_shareable(home)
        # A process that has threads cannot be forked well.
        start_logging(log_level, is_buffered=False)

        def be(number: int, listener: socket.socket) -> None:
            start_logging(log_level)
            server = make(dataclasses.replace(home, process=number))
            _run(server, [listener], is_behind_proxy=bind is not None)

        _supervise(home, bind or _address(home.url), processes, be)
        return
    start_logging(log_level)
    sockets = [_listen(bind or _address(home.url))]
    if home.frames_url is not None and bind is None:
        sockets.append(_listen(_address(home.frames_url)))
    _run(make(home), sockets, is_behind_proxy=bind is not None)


def _check_shareable(home: Home) -> None:
    if home.kind != "merchant":
        raise InvalidInputError(
            f"a {home.kind} has one process", field="--processes", remedy="leave it out"
        )
    if not home.database_url.startswith("postgresql"):
        raise InvalidInputError(
            "SQLite has one writer: several processes need PostgreSQL",
            field="--processes",
            remedy="serve one process, or make the home with --database postgresql://…",
        )


def _run(server: Any, sockets: list[socket.socket], *, is_behind_proxy: bool) -> None:
    app = build_app(server)
    # The writer thread must not wait 5 ms for a busy event loop to let go of the interpreter.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What stands when serving begins stays; and a request leaves no cycles behind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn handles them while it serves, and raises them again at its end: that end is ours.
        signal.signal(number, lambda *_: None)
    config = configured(app, is_behind_proxy=is_behind_proxy)
    uvicorn.Server(config).run(sockets=sockets)


def configured(app: Any, *, is_behind_proxy: bool) -> uvicorn.Config:
    """How uvicorn runs an application.

    Only a proxy may say for whom it asks (`X-Forwarded-For`): where there is none, a client on this
    machine could take a new address for each guess. A proxy is believed that is on this machine, or
    that FORWARDED_ALLOW_IPS names.
    """
    return uvicorn.Config(
        app,
        proxy_headers=is_behind_proxy,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=75,
    )


def _supervise(
    home: Home, address: str, processes: int, be: Callable[[int, socket.socket], None]
) -> None:
    """Start processes, start those again that die, until a signal comes; then wait for their end.

    Each has a socket of its own at the address, which stays here: what waits in it is served by
    the next process of that number.
    """
    with lock_home(home):  # the processes inherit it: nobody else serves while one of them lives
        migrate(home.database_url)
        _listen(address).close()  # is somebody else there?
        sockets = [_listen(address, is_shared=True) for _ in range(processes)]
        running: dict[int, int] = {}
        started_s: dict[int, float] = {}
        is_over = False

        def end(*_: Any) -> None:
            nonlocal is_over
            is_over = True
            for child in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)

        def start(number: int) -> None:
            started_s[number] = time.monotonic()
            signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # not before it is among `running`
            if not is_over:  # else nobody would tell it to end
                child = os.fork()
                if child == 0:
                    _be(number, sockets[number], be)
                running[child] = number
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

        for signal_number in _ENDING:
            signal.signal(signal_number, end)
        for number in range(processes):
            start(number)
        while running:
            child, status = os.wait()
            number = running.pop(child)
            if is_over:
                continue
            log.error("a process ended", extra={"number": number, "status": status})
            # One that cannot even start must not keep the machine busy.
            time.sleep(max(0.0, started_s[number] + AGAIN_S - time.monotonic()))
            start(number)


def _be(number: int, listener: socket.socket, be: Callable[[int, socket.socket], None]) -> NoReturn:
    """In a new process: serve, and end with it; also when the parent ends."""
    status = 1
    try:
        for one in _ENDING:
            signal.signal(one, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        parent = os.getppid()
        threading.Thread(target=_follow, args=(parent,), name="parent", daemon=True).start()
        be(number, listener)
        status = 0
    except BaseException:
        log.exception("a process cannot go on", extra={"number": number})
    finally:
        logging.shutdown()
        os._exit(status)


def _follow(parent: int) -> None:
    """Stop gracefully when the parent is gone."""
    while os.getppid() == parent:
        time.sleep(PARENT_PERIOD_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _address(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}"


def _listen(address: str, *, is_shared: bool = False) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except OSError as error:
        listener.close()
        raise ConflictError(
            f"cannot listen on {address}: {error.strerror}",
            code="address_in_use",
            field="url",
            remedy="stop whoever listens there, or give another --bind",
        ) from None
    listener.listen(BACKLOG)
    return listener
