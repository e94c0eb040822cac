"""`sconto wallet …`: accounts, clips, tokens, presentations."""

import secrets
from typing import Annotated
from urllib.parse import quote

import typer

from sconto.cli.api import Api
from sconto.cli.options import JsonOption, OptionalHome, UrlOption
from sconto.cli.output import show


def add_to(commands: typer.Typer) -> None:
    """Add the wallet's own commands to those that all servers have."""
    accounts = typer.Typer(help="Shoppers' accounts.", no_args_is_help=True)
    accounts.command("add")(add_account)
    commands.add_typer(accounts, name="account")
    one = typer.Typer(help="One token.", no_args_is_help=True)
    one.command("move")(move_token)
    commands.add_typer(one, name="token")
    commands.command()(clip)
    commands.command()(tokens)
    commands.command()(present)
    commands.command()(link)
    commands.command()(savings)


AccountOption = Annotated[
    str | None, typer.Option("--account", help="Whose; the key's own account if not given.")
]


def add_account(
    account_id: str,
    name: Annotated[str, typer.Option()] = "",
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Open an account; its API key is printed once."""
    document = {"account_id": account_id, "name": name or account_id}
    show(Api(url, home).call("POST", "/v1/accounts", document), as_json=as_json)


def clip(
    hub: Annotated[str, typer.Option(help="URL of the hub.")],
    frame_id: Annotated[str, typer.Option(help="The frame that the offer is in.")],
    promotion_id: str,
    account: AccountOption = None,
    clip_id: Annotated[
        str | None, typer.Option("--id", help="Your id of this clip; made if not given.")
    ] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Clip an offer: the hub issues a token to this wallet."""
    document = {
        "clip_id": clip_id or secrets.token_hex(16),
        "hub": hub,
        "frame_id": frame_id,
        "promotion_id": promotion_id,
    }
    if account is not None:
        document["account_id"] = account
    show(Api(url, home).call("POST", "/v1/clips", document), as_json=as_json)


def tokens(
    account: AccountOption = None,
    status: Annotated[
        str | None, typer.Option(help="usable, not_yet, expired, redeemed, moved, revoked, deleted")
    ] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """List the tokens of an account."""
    query = {"account_id": account, "status": status}
    show(Api(url, home).call("GET", "/v1/tokens", query=query), as_json=as_json)


def move_token(
    token_id: str,
    merchant: Annotated[str, typer.Option(help="URL of the merchant to use it at.")],
    account: AccountOption = None,
    move_id: Annotated[
        str | None, typer.Option("--id", help="Your id of this move; made if not given.")
    ] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Move a token to another merchant; with the same --id again, see how far that has come."""
    document = {"move_id": move_id or secrets.token_hex(16), "merchant": merchant}
    if account is not None:
        document["account_id"] = account
    path = f"/v1/tokens/{quote(token_id, safe='')}/moves"
    show(Api(url, home).call("POST", path, document), as_json=as_json)


def present(
    token_id: str,
    order_id: Annotated[str, typer.Option(help="The order that the proof is for.")],
    account: AccountOption = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Make the token and the proof for one order at its merchant."""
    document = {"token_id": token_id, "order_id": order_id}
    if account is not None:
        document["account_id"] = account
    show(Api(url, home).call("POST", "/v1/presentations", document), as_json=as_json)


def link(
    token_id: str,
    client: Annotated[str, typer.Option(help="The merchant's reference of the shopper.")],
    nonce: Annotated[str, typer.Option(help="The link code that the merchant gave.")],
    account: AccountOption = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Let a merchant recognise this shopper, so that coupons apply by themselves."""
    document = {"token_id": token_id, "client": client, "nonce": nonce}
    if account is not None:
        document["account_id"] = account
    show(Api(url, home).call("POST", "/v1/links", document), as_json=as_json)


def savings(
    account: AccountOption = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """What was saved."""
    query = {"account_id": account}
    show(Api(url, home).call("GET", "/v1/savings", query=query), as_json=as_json)
