"""Making a server: home, keys, datastore and the first administrator's key."""

import os
import time
from pathlib import Path
from typing import Any

from sconto.servers.config import create_home
from sconto.servers.principal import make_api_key
from sconto.store import access
from sconto.store.database import migrate
from sconto.store.writer import Store, Tx

OPERATOR = "operator"


def init_server(
    home: Path,
    *,
    kind: str,
    name: str,
    url: str,
    database_url: str | None = None,
    frames_url: str | None = None,
    replay: bool = False,
) -> dict[str, Any]:
    """Make a home and the operator's first key; gives what to note down."""
    made = create_home(
        home,
        kind=kind,
        name=name,
        url=url,
        now_ms=now_ms(),
        random=os.urandom,
        database_url=database_url,
        frames_url=frames_url,
    )
    migrate(made.database_url)
    store = Store(made.database_url, source=made.url, clock=now_ms)

    def command(tx: Tx) -> str:
        access.add_tenant(tx, OPERATOR, "operator", "Operator")
        scopes = {"admin", "replay"} if replay else {"admin"}
        return make_api_key(tx, OPERATOR, frozenset(scopes), "first administrator", os.urandom)

    try:
        api_key = store.write_now(command)
    finally:
        store.close()
    return {
        "home": str(home),
        "url": made.url,
        "key_id": made.key.kid,
        "api_key": api_key,
        "note": "this API key is not shown again; set SCONTO_API_KEY to use it",
    }


def now_ms() -> int:
    """The system's clock, in milliseconds."""
    return time.time_ns() // 1_000_000
