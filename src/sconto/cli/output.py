"""How a document is shown: as JSON, or as lines and tables for people."""

import functools
import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from sconto.base.errors import ScontoError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@functools.cache
def out() -> "Console":
    """Where text for people goes; made when there is some, since rich is slow to import."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def show(document: Any, *, as_json: bool) -> None:
    """Print a document: as one line of JSON, or as names, values and tables."""
    value = msgspec.to_builtins(document)
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        return
    if not isinstance(value, dict):
        value = {"result": value}
    for name, part in value.items():
        if isinstance(part, list) and part and all(isinstance(one, dict) for one in part):
            out().print(_table(name, part))
        else:
            out().print(f"{name}: {_text(part)}", markup=False)


def say_error(error: ScontoError) -> None:
    """One line: what is wrong, where, and how to mend it."""
    where = f" ({error.field})" if error.field else ""
    remedy = f"; {error.remedy}" if error.remedy else ""
    line = f"sconto: {error.message}{where}{remedy}"
    sys.stderr.write(" ".join(line.split()) + "\n")


def _table(title: str, rows: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*names, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in names))
    return table


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
