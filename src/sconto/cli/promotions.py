"""`sconto hub|merchant promotion …`: the promotions of whoever promises them."""

from typing import Annotated

import typer

from sconto.cli.api import Api
from sconto.cli.options import FileArgument, JsonOption, OptionalHome, UrlOption, read_document
from sconto.cli.output import show

commands = typer.Typer(help="Promotions: publish, launch, pause, top up.", no_args_is_help=True)


@commands.command()
def publish(
    file: FileArgument,
    launch: Annotated[bool, typer.Option(help="Start it at once.")] = False,
    tenant: Annotated[str | None, typer.Option(help="For this tenant (operators).")] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Publish terms from a file: a new promotion, or the next version of one."""
    terms = read_document(file)
    api = Api(url, home)
    version = terms.get("version", 1) if isinstance(terms, dict) else 1
    if version == 1:
        document = {"terms": terms, "launch": launch}
        if tenant is not None:
            document["tenant_id"] = tenant
        show(api.call("POST", "/v1/promotions", document), as_json=as_json)
    else:
        path = f"/v1/promotions/{terms.get('promotion_id', '')}/versions"
        show(api.call("POST", path, {"terms": terms}), as_json=as_json)


@commands.command("list")
def list_(
    after: Annotated[str | None, typer.Option(help="Last id of the page before.")] = None,
    status: Annotated[str | None, typer.Option(help="draft, active, paused or ended.")] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """List promotions, 50 at a time."""
    query = {"after": after, "status": status}
    show(Api(url, home).call("GET", "/v1/promotions", query=query), as_json=as_json)


@commands.command("show")
def show_(
    promotion_id: str,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Show a promotion with its terms and budget."""
    show(Api(url, home).call("GET", f"/v1/promotions/{promotion_id}"), as_json=as_json)


def _act(name: str, text: str) -> None:
    def act(
        promotion_id: str,
        url: UrlOption = None,
        home: OptionalHome = None,
        as_json: JsonOption = False,
    ) -> None:
        answer = Api(url, home).call("POST", f"/v1/promotions/{promotion_id}/{name}")
        show(answer, as_json=as_json)

    commands.command(name, help=text)(act)


_act("launch", "Launch a draft, or go on with a paused promotion.")
_act("pause", "Pause a promotion: nothing is clipped or redeemed until it is launched again.")
_act("end", "End a promotion for good.")


@commands.command("top-up")
def top_up(
    promotion_id: str,
    top_up_id: Annotated[str, typer.Option("--id", help="Your id of this top-up; once each.")],
    uses: Annotated[int, typer.Option(help="Uses to add.")] = 0,
    amount_minor: Annotated[int, typer.Option(help="Minor units to add.")] = 0,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Add to a promotion's budget."""
    document = {"top_up_id": top_up_id, "uses": uses, "amount_minor": amount_minor}
    answer = Api(url, home).call("POST", f"/v1/promotions/{promotion_id}/top-ups", document)
    show(answer, as_json=as_json)
