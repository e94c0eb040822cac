"""Options that many commands share, and reading of files given to them."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sconto.base.canonical import parse_json
from sconto.base.errors import InvalidInputError

HomeOption = Annotated[
    Path, typer.Option("--home", help="The server's folder.", envvar="SCONTO_HOME")
]
OptionalHome = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the server to call.", envvar="SCONTO_HOME"),
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="URL of the server to call.", envvar="SCONTO_URL")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the document as JSON.")]
FileArgument = Annotated[Path, typer.Argument(help="A JSON file; - reads standard input.")]

FILE_BYTES_MAX = 16 << 20


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, or of standard input for `-`."""
    if str(path) == "-":
        return sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}", field="file") from None


def read_document(path: Path) -> Any:
    """The JSON value of a file, parsed strictly."""
    return parse_json(read_bytes(path), max_bytes=FILE_BYTES_MAX, what=str(path))
