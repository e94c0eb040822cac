"""How a server listens: whom it believes about who asks; and how its processes end."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from sconto.servers.serve import configured


def seen(peer: str, forwarded: str | None, *, is_behind_proxy: bool) -> str:
    """The address that the application sees of a request."""
    found: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["client"][0])

    config = configured(app, is_behind_proxy=is_behind_proxy)
    config.load()
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    scope = {"type": "http", "client": (peer, 1), "scheme": "http", "headers": headers}
    asyncio.run(config.loaded_app(scope, None, None))
    return found[0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "is_behind_proxy", "expected"),
    [
        ("127.0.0.1", "203.0.113.9", False, "127.0.0.1"),
        ("198.51.100.1", "203.0.113.9", False, "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9", True, "203.0.113.9"),
        ("127.0.0.1", None, True, "127.0.0.1"),
        # What the client itself has sent stands before what the proxy adds.
        ("127.0.0.1", "10.9.8.7, 203.0.113.9", True, "203.0.113.9"),
        ("198.51.100.1", "203.0.113.9", True, "198.51.100.1"),
    ],
)
def test_only_a_proxy_says_for_whom_it_asks(
    monkeypatch: pytest.MonkeyPatch,
    peer: str,
    forwarded: str | None,
    is_behind_proxy: bool,
    expected: str,
) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    assert seen(peer, forwarded, is_behind_proxy=is_behind_proxy) == expected


def test_a_proxy_on_another_machine_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.5")
    assert seen("10.0.0.5", "203.0.113.9", is_behind_proxy=True) == "203.0.113.9"
    assert seen("127.0.0.1", "203.0.113.9", is_behind_proxy=True) == "127.0.0.1"


_INTERRUPTED = """
import contextlib, os, signal, time, types
from sconto.servers import serve

serve.lock_home = lambda home: contextlib.nullcontext()
serve.migrate = lambda url: None
forks, fork = [], os.fork

def interrupted():
    child = fork()
    if child:
        forks.append(child)
        os.kill(os.getpid(), signal.SIGTERM)
    return child

os.fork = interrupted
home = types.SimpleNamespace(database_url="")
serve._supervise(home, "127.0.0.1:0", 3, lambda number, listener: time.sleep(3600))
print(len(forks))
"""


def test_no_process_is_started_after_the_signal_to_end() -> None:
    """Goal: none is left that nobody tells to end. Method: the signal comes with the first fork."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "1\n"
