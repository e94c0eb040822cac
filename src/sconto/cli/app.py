"""The commands of all servers: `sconto hub|merchant|wallet init`, `serve`, tenants, peers, …"""

from typing import Annotated

import typer

import sconto
from sconto.base.errors import ScontoError
from sconto.cli import authoring, demo, ledger, merchant, promotions, restore, wallet
from sconto.cli.api import Api
from sconto.cli.options import HomeOption, JsonOption, OptionalHome, UrlOption
from sconto.cli.output import show
from sconto.servers.scopes import SCOPES

app = typer.Typer(
    name="sconto",
    help="Sconto, an open promotion network: a hub, merchants and wallets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DESCRIPTIONS = {
    "hub": "The promotion server: brands' terms, retailers' frames, tokens, statistics.",
    "merchant": "The commercial server: evaluates, reserves, redeems, reverses; alone too.",
    "wallet": "The client server: clips offers, holds tokens, presents them.",
}


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Sconto, an open promotion network."""
    if version:
        typer.echo(sconto.__version__)
        raise typer.Exit


def server_commands(kind: str) -> typer.Typer:
    """The commands that every kind of server has."""
    commands = typer.Typer(help=DESCRIPTIONS[kind], no_args_is_help=True)

    @commands.command()
    def init(
        home: HomeOption,
        url: Annotated[str, typer.Option(help="Public URL: scheme, host and port.")],
        name: Annotated[str, typer.Option(help="What people call it.")] = "",
        database: Annotated[
            str | None, typer.Option(help="Database URL; SQLite in the home if not given.")
        ] = None,
        frames_url: Annotated[
            str | None, typer.Option(help="Hub: origin of the frames, another port or host.")
        ] = None,
        replay: Annotated[
            bool, typer.Option(help="Let the key say when things happened (imports, demo).")
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Make a server's home, keys and datastore, and its first administrator's key."""
        from sconto.cli.setup import init_server

        made = init_server(
            home,
            kind=kind,
            name=name or kind,
            url=url,
            database_url=database,
            frames_url=frames_url,
            replay=replay,
        )
        show(made, as_json=as_json)

    @commands.command("serve")
    def serve_command(
        home: HomeOption,
        bind: Annotated[
            str | None, typer.Option(help="host:port to listen on, behind a proxy.")
        ] = None,
        log_level: Annotated[str, typer.Option(help="debug, info or warning.")] = "info",
        processes: Annotated[
            int,
            typer.Option(help="Merchant: so many share the work; needs PostgreSQL.", min=1, max=64),
        ] = 1,
    ) -> None:
        """Serve until a signal comes; then finish what was accepted and stop."""
        from sconto.servers.serve import serve

        serve(home, kind, bind=bind, log_level=log_level, processes=processes)

    commands.add_typer(_tenants(), name="tenant")
    commands.add_typer(_keys(), name="key")
    commands.add_typer(_peers(), name="peer")
    commands.add_typer(_database(), name="db")

    @commands.command()
    def exchange(
        url: UrlOption = None, home: OptionalHome = None, as_json: JsonOption = False
    ) -> None:
        """What waits for each peer, and what was parked and why."""
        show(Api(url, home).call("GET", "/v1/exchange"), as_json=as_json)

    @commands.command()
    def health(
        url: UrlOption = None, home: OptionalHome = None, as_json: JsonOption = False
    ) -> None:
        """Whether the server can serve requests."""
        show(Api(url, home).call("GET", "/readyz"), as_json=as_json)

    @commands.command()
    def statistics(
        url: UrlOption = None,
        home: OptionalHome = None,
        promotion: Annotated[str | None, typer.Option(help="Of this promotion only.")] = None,
        by: Annotated[
            str, typer.Option(help="promotion, merchant, day, joined by commas.")
        ] = "promotion",
        as_json: JsonOption = False,
    ) -> None:
        """Counts from the journal: shown, clipped, presented, applied, redeemed, reversed."""
        query = {"promotion_id": promotion, "by": by}
        show(Api(url, home).call("GET", "/v1/statistics", query=query), as_json=as_json)

    return commands


def _tenants() -> typer.Typer:
    commands = typer.Typer(
        help="Tenants: brands, merchants, wallets, accounts.", no_args_is_help=True
    )

    @commands.command()
    def add(
        tenant_id: str,
        kind: Annotated[str, typer.Option(help="brand, merchant, wallet, account or operator.")],
        name: Annotated[str, typer.Option()] = "",
        url: UrlOption = None,
        home: OptionalHome = None,
        as_json: JsonOption = False,
    ) -> None:
        """Add a tenant."""
        document = {"tenant_id": tenant_id, "kind": kind, "name": name or tenant_id}
        show(Api(url, home).call("POST", "/v1/tenants", document), as_json=as_json)

    @commands.command("list")
    def list_(
        after: Annotated[str | None, typer.Option(help="Last id of the page before.")] = None,
        url: UrlOption = None,
        home: OptionalHome = None,
        as_json: JsonOption = False,
    ) -> None:
        """List tenants, 100 at a time."""
        show(Api(url, home).call("GET", "/v1/tenants", query={"after": after}), as_json=as_json)

    return commands


def _keys() -> typer.Typer:
    commands = typer.Typer(help="API keys, scoped, shown once.", no_args_is_help=True)

    @commands.command()
    def add(
        tenant_id: str,
        scope: Annotated[list[str], typer.Option(help=f"One of: {', '.join(SCOPES)}.")],
        label: Annotated[str, typer.Option()] = "key",
        url: UrlOption = None,
        home: OptionalHome = None,
        as_json: JsonOption = False,
    ) -> None:
        """Make a key for a tenant; it is printed once."""
        made = Api(url, home).call(
            "POST", f"/v1/tenants/{tenant_id}/keys", {"scopes": scope, "label": label}
        )
        show(made, as_json=as_json)

    @commands.command("list")
    def list_(
        tenant_id: str,
        url: UrlOption = None,
        home: OptionalHome = None,
        as_json: JsonOption = False,
    ) -> None:
        """List a tenant's keys, without their secrets."""
        show(Api(url, home).call("GET", f"/v1/tenants/{tenant_id}/keys"), as_json=as_json)

    @commands.command()
    def revoke(
        tenant_id: str,
        key_id: str,
        url: UrlOption = None,
        home: OptionalHome = None,
        as_json: JsonOption = False,
    ) -> None:
        """Revoke a key for good."""
        Api(url, home).call("DELETE", f"/v1/tenants/{tenant_id}/keys/{key_id}")
        show({"key_id": key_id, "is_revoked": True}, as_json=as_json)

    return commands


def _peers() -> typer.Typer:
    commands = typer.Typer(help="Other servers that this one trusts.", no_args_is_help=True)

    @commands.command()
    def add(
        peer_url: str,
        kind: Annotated[str, typer.Option(help="hub, merchant or wallet.")],
        tenant: Annotated[str, typer.Option(help="Tenant that the server belongs to here.")],
        url: UrlOption = None,
        home: OptionalHome = None,
        as_json: JsonOption = False,
    ) -> None:
        """Register a server and fetch its keys."""
        document = {"url": peer_url, "kind": kind, "tenant_id": tenant, "name": tenant}
        show(Api(url, home).call("POST", "/v1/peers", document), as_json=as_json)

    @commands.command("list")
    def list_(
        url: UrlOption = None, home: OptionalHome = None, as_json: JsonOption = False
    ) -> None:
        """List registered servers."""
        show(Api(url, home).call("GET", "/v1/peers"), as_json=as_json)

    return commands


def _database() -> typer.Typer:
    commands = typer.Typer(help="The datastore of a stopped server.", no_args_is_help=True)

    @commands.command()
    def upgrade(home: HomeOption, as_json: JsonOption = False) -> None:
        """Bring the schema to this version; `serve` does it too."""
        from sconto.servers.config import load_home, lock_home
        from sconto.store.database import migrate

        found = load_home(home)
        with lock_home(found):
            migrate(found.database_url)
        show({"home": str(home), "schema": "up to date"}, as_json=as_json)

    @commands.command()
    def check(home: HomeOption, as_json: JsonOption = False) -> None:
        """Check the journal's chain, and that the statistics are its fold."""
        from sconto.cli.setup import now_ms
        from sconto.servers.config import load_home, lock_home
        from sconto.store import journal
        from sconto.store.writer import Store

        found = load_home(home)
        with lock_home(found):
            store = Store(found.database_url, source=found.url, clock=now_ms)
            try:
                with store.read() as connection:
                    broken = journal.first_broken(connection)
                    fold = journal.recount(connection)
                    stored = dict(journal.cells(connection))
                    entries = sum(1 for _ in journal.entries(connection))
            finally:
                store.close()
        result = {
            "entries": entries,
            "chain_holds": broken is None,
            "first_broken": broken,
            "statistics_match": fold.cells == stored,
        }
        if broken is not None or fold.cells != stored:
            raise ScontoError(
                f"the datastore of {home} is damaged: {result}",
                code="datastore_damaged",
                remedy="restore a backup and register a new incarnation",
            )
        show(result, as_json=as_json)

    return commands


hub_commands = server_commands("hub")
merchant_commands = server_commands("merchant")
wallet_commands = server_commands("wallet")
for _kind, _commands in (("hub", hub_commands), ("merchant", merchant_commands)):
    _commands.add_typer(promotions.commands, name="promotion")
    restore.add_to(_commands, _kind)
    _commands.add_typer(ledger.commands, name="ledger")
hub_commands.add_typer(restore.silent_merchants, name="merchant")
merchant.add_to(merchant_commands)
wallet.add_to(wallet_commands)
app.add_typer(hub_commands, name="hub")
app.add_typer(merchant_commands, name="merchant")
app.add_typer(wallet_commands, name="wallet")
app.add_typer(authoring.commands, name="promotions")
app.command("demo")(demo.demo)
