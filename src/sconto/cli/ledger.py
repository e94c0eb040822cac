"""`sconto hub|merchant ledger check`: do the books balance?"""

import typer

from sconto.base.errors import ScontoError
from sconto.cli.options import HomeOption, JsonOption
from sconto.cli.output import show

commands = typer.Typer(help="Budgets and allotments of a stopped server.", no_args_is_help=True)


@commands.callback()
def ledger() -> None:
    """Budgets and allotments of a stopped server."""


@commands.command()
def check(home: HomeOption, as_json: JsonOption = False) -> None:
    """Check that budgets, allotments, redemptions and limits agree; reads only."""
    from sconto.servers.config import load_home, lock_home
    from sconto.store import books
    from sconto.store.database import connect, open_engine

    found = load_home(home)
    with lock_home(found):
        engine = open_engine(found.database_url, read_only=True)
        try:
            with connect(engine) as connection, connection.begin():
                checked = books.check(connection)
        finally:
            engine.dispose()
    faults = [fault._asdict() for fault in checked.faults]
    show({**checked._asdict(), "faults": faults, "balances": not faults}, as_json=as_json)
    if faults:
        named = ", ".join(sorted({fault.rule for fault in checked.faults}))
        raise ScontoError(
            f"the books of {home} do not balance: {named}",
            code="books_unbalanced",
            remedy="keep the datastore as it is, and restore a backup on another disk",
        )
