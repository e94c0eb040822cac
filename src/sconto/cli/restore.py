"""After a loss: `sconto hub|merchant restore`, and `sconto hub merchant write-off`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sconto.base.errors import InvalidInputError
from sconto.cli.api import Api
from sconto.cli.options import HomeOption, JsonOption, OptionalHome, UrlOption
from sconto.cli.output import show

silent_merchants = typer.Typer(help="Merchants that are silent.", no_args_is_help=True)


@silent_merchants.command("write-off")
def write_off(
    merchant: Annotated[str, typer.Argument(help="URL of the merchant.")],
    promotion_id: Annotated[list[str] | None, typer.Option(help="Of this one only.")] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Write off what a merchant holds: it is nobody's; late reports are still honoured."""
    api = Api(url, home)
    peers = api.call("GET", "/v1/peers")["peers"]
    tenants = [peer["tenant_id"] for peer in peers if peer["url"] == merchant.rstrip("/")]
    if not tenants:
        raise InvalidInputError(f"{merchant} is not a server of this hub", field="merchant")
    document = {"promotion_ids": promotion_id or []}
    show(api.call("POST", f"/v1/merchants/{tenants[0]}/write-offs", document), as_json=as_json)


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
        counts = hub.base.store.write_now(lambda tx: begin_epoch(hub, tx, before))
    finally:
        hub.base.close()
    end_restore(folder)
    return {"epoch": home.incarnation, **counts}
