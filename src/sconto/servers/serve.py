"""Serving: one process, one server, uvicorn in front; it stops gracefully and loses nothing.

On SIGTERM or SIGINT it takes no new connection, answers the requests that it has, commits what the
writer has accepted, and ends. A hub has two origins, its own and that of the frames: it listens at
both, unless it stands behind a proxy (`bind`), which sends it both with their own `Host`.
"""

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from sconto.base.errors import ConflictError
from sconto.servers.app import build_app
from sconto.servers.config import Home, load_home
from sconto.servers.logs import start_logging
from sconto.servers.protocol import BoundedProtocol

#: Seconds that requests under way get to finish.
GRACE_S = 20
BACKLOG = 1024
SWITCH_INTERVAL_S = 0.0005


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
    make: Callable[[Home], Any] = make_server,
) -> None:
    """Serve a home until a signal comes, at `bind` (host:port), else at the address of its URLs.

    `make` makes the server of the home.

    Raises ConflictError when the address or the home is in use.
    """
    home = load_home(folder, kind)
    start_logging(log_level)
    sockets = [_listen(bind or _address(home.url))]
    if home.frames_url is not None and bind is None:
        sockets.append(_listen(_address(home.frames_url)))
    app = build_app(make(home))
    # The writer thread must not wait 5 ms for a busy event loop to let go of the interpreter.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn handles them while it serves, and raises them again at its end: that end is ours.
        signal.signal(number, lambda *_: None)
    config = configured(app, is_behind_proxy=bind is not None)
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


def _address(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}"


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
