"""`sconto merchant …`: frames, acceptances and the checkout."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from sconto.base.errors import InvalidInputError
from sconto.cli import codes
from sconto.cli.api import Api
from sconto.cli.options import (
    FileArgument,
    HomeOption,
    JsonOption,
    OptionalHome,
    UrlOption,
    read_bytes,
    read_document,
)
from sconto.cli.output import show

if TYPE_CHECKING:
    from sconto.frames import FrameOffer

frame_commands = typer.Typer(help="Website frames: build, publish, withdraw.", no_args_is_help=True)
SECONDS_PER_DAY = 86_400
FRAME_FILES_MAX = 200


def add_to(commands: typer.Typer) -> None:
    """Add the merchant's own commands to those that all servers have."""
    commands.add_typer(frame_commands, name="frame")
    commands.add_typer(codes.commands, name="codes")
    commands.command()(accept)
    commands.command()(evaluate)
    commands.command()(redeem)
    commands.command()(reverse)
    commands.command()(order)
    commands.command("coupons")(coupons)
    commands.command("link-code")(link_code)


@frame_commands.command()
def build(
    folder: Annotated[Path, typer.Argument(help="HTML, CSS and images; index.html is the frame.")],
    home: HomeOption,
    hub: Annotated[str, typer.Option(help="URL of the hub that the frame is for.")],
    offers: Annotated[
        Path,
        typer.Option(help="JSON list of offers: promotion_id, terms_digest, title."),
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    days: Annotated[int, typer.Option(help="How long the frame may be shown.", min=1)] = 30,
    sequence: Annotated[
        int | None, typer.Option(help="Higher than any before; the time if not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Generate a frame with its signature from a folder and a list of promotions."""
    from sconto.frames import build_frame, encode_bundle, lint_files
    from sconto.servers.config import check_url, load_home

    found = load_home(home, "merchant")
    now_s = int(time.time())
    files = read_folder(folder)
    frame = build_frame(
        found.key,
        merchant=found.url,
        hub=check_url(hub, "--hub"),
        not_before_s=now_s,
        expires_s=now_s + days * SECONDS_PER_DAY,
        sequence=sequence or time.time_ns() // 1_000_000,
        offers=read_offers(offers),
        files=files,
    )
    out.write_bytes(encode_bundle(frame))
    show(
        {
            "frame_id": frame.frame_id,
            "signature": frame.signature,
            "bundle": str(out),
            "offers": len(frame.manifest.offers),
            "files": len(frame.resources),
            "warnings": [str(warning) for warning in lint_files(files)],
        },
        as_json=as_json,
    )


@frame_commands.command()
def publish(
    bundle: FileArgument,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Distribute a built frame to its hub, through the merchant server."""
    from sconto.frames import decode_bundle

    body = read_bytes(bundle)
    decode_bundle(body)
    show(Api(url, home).call("POST", "/v1/frames", body=body), as_json=as_json)


@frame_commands.command()
def withdraw(
    frame_id: str,
    hub: Annotated[str, typer.Option(help="URL of the hub that shows it.")],
    sequence: Annotated[
        int | None, typer.Option(help="Higher than any before; the time if not given.")
    ] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Take a frame back."""
    document = {
        "hub": hub,
        "frame_id": frame_id,
        "sequence": sequence or time.time_ns() // 1_000_000,
    }
    show(Api(url, home).call("POST", "/v1/frames/withdrawals", document), as_json=as_json)


def accept(
    hub: Annotated[str, typer.Option(help="URL of the hub.")],
    promotion_id: Annotated[list[str] | None, typer.Argument(help="Which ones.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that the hub offers.")] = False,
    decline: Annotated[bool, typer.Option(help="Take part no longer.")] = False,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Take part in promotions of a hub."""
    document = {
        "hub": hub,
        "promotion_ids": promotion_id or [],
        "all": all_,
        "accept": not decline,
    }
    show(Api(url, home).call("POST", "/v1/acceptances", document), as_json=as_json)


ClientOption = Annotated[str | None, typer.Option(help="Your reference of the shopper.")]
PresentedOption = Annotated[
    list[Path] | None,
    typer.Option("--presented", help="What `wallet present --json` printed; may stand twice."),
]


def evaluate(
    file: FileArgument,
    client: ClientOption = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate the cart in a file; nothing is spent."""
    document = {"cart": read_document(file)}
    if client is not None:
        document["client"] = client
    show(Api(url, home).call("POST", "/v1/evaluations", document), as_json=as_json)


def redeem(
    order_id: str,
    file: FileArgument,
    client: ClientOption = None,
    presented: PresentedOption = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Check out the cart in a file under an order id of yours."""
    document = {"order_id": order_id, "cart": read_document(file)}
    if client is not None:
        document["client"] = client
    if presented:
        document["presented"] = [read_presented(path) for path in presented]
    show(Api(url, home).call("POST", "/v1/redemptions", document), as_json=as_json)


def reverse(
    order_id: str,
    reversal_id: Annotated[str, typer.Option("--id", help="Your id of this reversal.")],
    line: Annotated[
        list[str] | None, typer.Option(help="LINE=UNITS that come back; all if not given.")
    ] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Reverse what was redeemed in an order."""
    lines = []
    for text in line or []:
        line_id, _, units = text.rpartition("=")
        if not line_id or not units.isdigit():
            raise InvalidInputError(f"{text!r} is not LINE=UNITS", field="--line")
        lines.append({"line_id": line_id, "quantity": int(units)})
    document = {"reversal_id": reversal_id, "lines": lines}
    show(Api(url, home).call("POST", f"/v1/orders/{order_id}/reversals", document), as_json=as_json)


def order(
    order_id: str, url: UrlOption = None, home: OptionalHome = None, as_json: JsonOption = False
) -> None:
    """Show an order and its receipt."""
    show(Api(url, home).call("GET", f"/v1/orders/{order_id}"), as_json=as_json)


def coupons(
    client: Annotated[str | None, typer.Option(help="Of this client.")] = None,
    token_id: Annotated[str | None, typer.Option(help="Of this token.")] = None,
    handle: Annotated[str | None, typer.Option(help="Of the token with this handle.")] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Show coupon information, as the hub told it."""
    query = {"client": client, "token_id": token_id, "handle": handle}
    show(Api(url, home).call("GET", "/v1/coupon-information", query=query), as_json=as_json)


def link_code(
    client: str, url: UrlOption = None, home: OptionalHome = None, as_json: JsonOption = False
) -> None:
    """Let a shopper who is signed in with you link a wallet: a nonce for `wallet link`."""
    path = f"/v1/clients/{quote(client, safe='')}/link-codes"
    show(Api(url, home).call("POST", path), as_json=as_json)


def read_presented(path: Path) -> dict[str, str]:
    """Token and proof in a file that `wallet present` wrote."""
    value = read_document(path)
    if not isinstance(value, dict) or not {"token", "proof"} <= value.keys():
        raise InvalidInputError("it has no token and proof", field="--presented")
    return {name: str(value[name]) for name in ("token", "proof")}


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a frame's folder by relative path; hidden ones are left out."""
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is not a folder", field="folder")
    files: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            if len(files) == FRAME_FILES_MAX:
                raise InvalidInputError(
                    f"{folder} has more than {FRAME_FILES_MAX} files", field="folder"
                )
            files[name] = path.read_bytes()
    return files


def read_offers(path: Path) -> list["FrameOffer"]:
    """The offers of a file; an `id` is made where there is none."""
    from sconto.frames import FrameOffer

    listed = read_document(path)
    if not isinstance(listed, list):
        raise InvalidInputError("offers are a JSON list", field="--offers")
    offers = []
    for i, one in enumerate(listed):
        if not isinstance(one, dict) or not {"promotion_id", "terms_digest"} <= one.keys():
            raise InvalidInputError(
                "an offer has promotion_id and terms_digest", field=f"--offers[{i}]"
            )
        title = one.get("title")
        offers.append(
            FrameOffer(
                id=str(one.get("id", f"o{i + 1}")),
                promotion_id=str(one["promotion_id"]),
                terms_digest=str(one["terms_digest"]),
                **({} if title is None else {"title": str(title)}),
            )
        )
    return offers
