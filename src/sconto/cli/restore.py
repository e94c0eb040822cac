"""`sconto hub|merchant restore`: a home that was put back to a backup becomes another incarnation."""

import os
from pathlib import Path
from typing import Any

import typer

from sconto.cli.options import HomeOption, JsonOption
from sconto.cli.output import show


def add_to(commands: typer.Typer, kind: str) -> None:
    """Add the command to those of a hub or a merchant."""

    @commands.command()
    def restore(home: HomeOption, as_json: JsonOption = False) -> None:
        """Make a home that was restored from a backup safe to serve again; run it while stopped."""
        renew = {"hub": renew_hub, "merchant": renew_merchant}[kind]
        show({"home": str(home), **renew(home)}, as_json=as_json)


def renew_merchant(folder: Path) -> dict[str, Any]:
    """A new incarnation; everything that the old one held is closed."""
    from sconto.cli.setup import now_ms
    from sconto.servers.config import end_restore, renew_incarnation
    from sconto.servers.merchant import Merchant
    from sconto.servers.merchant.restore import renew

    home = renew_incarnation(folder, "merchant", now_ms(), os.urandom)
    merchant = Merchant(home)
    try:
        counts = renew(merchant)
    finally:
        merchant.base.close()
    end_restore(folder)
    return {"incarnation": home.incarnation, **counts}


def renew_hub(folder: Path) -> dict[str, Any]:
    """A new epoch; nothing is free in it until budgets are topped up."""
    from sconto.cli.setup import now_ms
    from sconto.servers.config import end_restore, incarnation_before, renew_incarnation
    from sconto.servers.hub import Hub
    from sconto.servers.hub.incarnations import begin_epoch

    home = renew_incarnation(folder, "hub", now_ms(), os.urandom)
    before = incarnation_before(folder)
    hub = Hub(home)
    try:
        counts = hub.base.store.write_now(lambda tx: begin_epoch(tx, home, before))
    finally:
        hub.base.close()
    end_restore(folder)
    return {"epoch": home.incarnation, **counts}
