"""`sconto merchant codes …`: unique codes, made, imported and exported by the million."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from sconto.base.errors import InvalidInputError, LocalError
from sconto.cli.api import Api
from sconto.cli.options import JsonOption, OptionalHome, UrlOption
from sconto.cli.output import show

if TYPE_CHECKING:
    from rich.progress import Progress

commands = typer.Typer(
    help="Unique codes: make, import, export by the million.", no_args_is_help=True
)

#: Seconds between two looks at a job.
LOOK_S = 0.5

JobOption = Annotated[str, typer.Option("--id", help="Your id of the job; once each.")]


@commands.command()
def generate(
    promotion_id: str,
    count: Annotated[int, typer.Option(help="How many, up to a million.", min=1)],
    job_id: JobOption,
    prefix: Annotated[str, typer.Option(help="Stands before every code, as OATY-.")] = "",
    wait: Annotated[bool, typer.Option(help="Watch the job until it is done.")] = True,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Make unique codes; the server goes on by itself, also after a restart."""
    api = Api(url, home)
    document = {"job_id": job_id, "count": count, "prefix": prefix}
    job = api.call("POST", _jobs(promotion_id), document)
    if wait:
        job = _watch(api, job)
    show(job, as_json=as_json)


@commands.command()
def status(
    promotion_id: str,
    job_id: Annotated[
        str | None, typer.Option("--id", help="Of this job; all if not given.")
    ] = None,
    watch: Annotated[bool, typer.Option(help="Until it is done.")] = False,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """How far jobs have come, and how many of their codes were used."""
    api = Api(url, home)
    if job_id is None:
        show(api.call("GET", _jobs(promotion_id)), as_json=as_json)
        return
    job = api.call("GET", _jobs(promotion_id, job_id))
    show(_watch(api, job) if watch else job, as_json=as_json)


@commands.command()
def export(
    promotion_id: str,
    job_id: JobOption,
    to: Annotated[Path, typer.Option("--out", help="The CSV file to write; - writes it out.")],
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Write the codes of a job to a CSV file; the server makes them again."""
    api = Api(url, home)
    path = _jobs(promotion_id, job_id)
    total = api.call("GET", path)["done"]
    if str(to) == "-":
        api.download(f"{path}/codes.csv", sys.stdout.buffer.write)
        return
    with _private(to) as file, _bar("codes", total) as bar:

        def write(part: bytes) -> None:
            file.write(part)
            bar.advance(bar.task_ids[0], part.count(b"\n"))

        api.download(f"{path}/codes.csv", write)
    show({"job_id": job_id, "codes": total, "file": str(to)}, as_json=as_json)


@commands.command("import")
def import_(
    promotion_id: str,
    file: Annotated[Path, typer.Argument(help="A CSV file with a column `code`.")],
    job_id: Annotated[
        str | None, typer.Option("--id", help="Your id of this import; made from the file if not.")
    ] = None,
    url: UrlOption = None,
    home: OptionalHome = None,
    as_json: JsonOption = False,
) -> None:
    """Import codes that were made elsewhere; a file with a wrong line is refused as a whole."""
    from sconto.client import IMPORT_TIMEOUT_S

    try:
        body = file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror}", field="file") from None
    path = f"/v1/promotions/{quote(promotion_id, safe='')}/codes/import"
    job = Api(url, home).call(
        "POST",
        path,
        body=body,
        media_type="text/csv",
        timeout_s=IMPORT_TIMEOUT_S,
        query={"job_id": job_id},
    )
    show(job, as_json=as_json)


def _jobs(promotion_id: str, job_id: str | None = None) -> str:
    path = f"/v1/promotions/{quote(promotion_id, safe='')}/code-jobs"
    return path if job_id is None else f"{path}/{quote(job_id, safe='')}"


def _watch(api: Api, job: Any) -> Any:
    """Look at a job until it is done, with a bar on standard error."""
    path = _jobs(job["promotion_id"], job["job_id"])
    with _bar(job["job_id"], job["count"]) as bar:
        while job["state"] == "running":
            bar.update(bar.task_ids[0], completed=job["done"])
            time.sleep(LOOK_S)
            job = api.call("GET", path)
        bar.update(bar.task_ids[0], completed=job["done"])
    return job


@contextmanager
def _bar(name: str, total: int) -> Iterator["Progress"]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar.add_task(name, total=total)
        yield bar


@contextmanager
def _private(path: Path) -> Iterator[Any]:
    """A new file that only its owner can read: whoever has the codes can use them."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}", field="--out") from None
    with os.fdopen(descriptor, "wb") as file:
        yield file
