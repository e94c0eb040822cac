"""Writes the pages of this folder that are made from the code: `cli.md` and `routes.md`.

    .venv/bin/python docs/reference/make.py

`tests/docs/test_reference.py` fails when a page is not what this makes.
"""

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import typer

from sconto.cli import app
from sconto.servers.app import COMMON
from sconto.servers.endpoint import Endpoint
from sconto.servers.hub import Hub
from sconto.servers.merchant import Merchant
from sconto.servers.scopes import SCOPES
from sconto.servers.wallet import Wallet

FOLDER = Path(__file__).parent
KINDS = ("hub", "merchant", "wallet")
NOTE = "<!-- Made by docs/reference/make.py; do not edit. -->\n"


class Command(NamedTuple):
    """A command of `sconto`, without the kind of server that it is of."""

    path: tuple[str, ...]
    help: str
    arguments: tuple[str, ...]
    rows: tuple[str, ...]


def cli_page() -> str:
    """Every command, those that several servers have once."""
    kinds_of: dict[Command, list[str]] = {}
    for names, command in _leaves(typer.main.get_command(app), ()):
        kind = names[0] if names[0] in KINDS else ""
        kinds_of.setdefault(_command(names[1:] if kind else names, command), []).append(kind)
    sections: dict[str, list[str]] = {}
    for command, kinds in kinds_of.items():
        heading, prefix = _place(kinds)
        sections.setdefault(heading, []).append(_command_text(command, prefix))
    parts = [
        NOTE,
        "# Commands\n",
        "A command that changes or asks a running server calls its API: give `--home` or `--url`"
        " (or set `SCONTO_HOME`, `SCONTO_URL`), and the API key in `SCONTO_API_KEY`. `init`,"
        " `serve`, `frame build` and `db` open the home's folder themselves. With `--json` a"
        " command prints the API's document in one line. What can be mended by the caller ends"
        " with one line on standard error and exit code 2.\n",
    ]
    for heading, texts in sections.items():
        parts += [f"## {heading}\n", *texts]
    return "\n".join(parts)


def routes_page() -> str:
    """Every route, those that all servers have once."""
    listed = {
        "hub": list(Hub.endpoints),
        "merchant": list(Merchant.endpoints),
        "wallet": list(Wallet.endpoints),
    }
    servers_of: dict[int, list[str]] = {}
    routes: dict[int, Endpoint] = {}
    for endpoint in COMMON:
        servers_of[id(endpoint)], routes[id(endpoint)] = list(KINDS), endpoint
    for kind, endpoints in listed.items():
        for endpoint in endpoints:
            servers_of.setdefault(id(endpoint), []).append(kind)
            routes[id(endpoint)] = endpoint
    sections: dict[str, list[Endpoint]] = {}
    for key, kinds in servers_of.items():
        heading = "Every server" if len(kinds) == 3 else " and ".join(k.capitalize() for k in kinds)
        sections.setdefault(heading, []).append(routes[key])
    scopes = [f"| `{name}` | {meaning} |" for name, meaning in SCOPES.items()]
    parts = [
        NOTE,
        "# Routes\n",
        "Made from the declarations that the servers run, like the OpenAPI 3.1 document that each"
        " serves at `/schema/openapi.json`, which has the full schemas. Errors are problems"
        " (RFC 9457), see [codes](codes.md).\n",
        "## Scopes\n",
        "An API key is sent as `Authorization: Bearer sconto_...`; a peer signs its request"
        " (RFC 9421). *Nobody's* means that anybody may ask, *any* that any known caller may,"
        " *peer* that a registered server must sign.\n",
        "\n".join(["| Scope | Allows to |", "|---|---|", *scopes]) + "\n",
    ]
    for heading in ("Every server", "Hub and Merchant", "Hub", "Merchant", "Wallet"):
        endpoints = sections.pop(heading, [])
        parts.append(f"## {heading}\n")
        parts += [_route_text(one) for one in endpoints]
    if sections:
        raise ValueError(f"a section is not printed: {sorted(sections)}")
    return "\n".join(parts)


def _leaves(command: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield names, command
        return
    for name, inner in command.commands.items():
        yield from _leaves(inner, (*names, name))


def _command(path: tuple[str, ...], command: Any) -> Command:
    arguments, rows = [], []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        meaning = " ".join((getattr(parameter, "help", None) or "").split())
        if parameter.param_type_name == "argument":
            name = parameter.name.upper().rstrip("_")
            arguments.append(name if parameter.required else f"[{name}]")
            if meaning:
                rows.append(f"| `{name}` | {meaning} |")
            continue
        name = ", ".join(f"`{one}`" for one in (*parameter.opts, *parameter.secondary_opts))
        notes = [meaning] if meaning else []
        if parameter.required:
            notes.append("Required.")
        elif parameter.default not in (None, False, "", (), []) and not callable(parameter.default):
            notes.append(f"Default: `{parameter.default}`.")
        if parameter.envvar:
            notes.append(f"Or `{parameter.envvar}`.")
        rows.append(f"| {name} | {' '.join(notes)} |")
    return Command(path, " ".join((command.help or "").split()), tuple(arguments), tuple(rows))


def _place(kinds: list[str]) -> tuple[str, str]:
    if kinds == [""]:
        return "The demo", "sconto"
    if len(kinds) == len(KINDS):
        return "Every server", f"sconto {'|'.join(KINDS)}"
    return " and ".join(kind.capitalize() for kind in kinds), f"sconto {'|'.join(kinds)}"


def _command_text(command: Command, prefix: str) -> str:
    usage = " ".join((prefix, *command.path, *command.arguments))
    table = "\n".join(["| Option | Meaning |", "|---|---|", *command.rows]) + "\n"
    return f"### `{usage}`\n\n{command.help}\n" + (f"\n{table}" if command.rows else "")


def _route_text(endpoint: Endpoint) -> str:
    path = re.sub(r"\{(\w+):\w+\}", r"{\1}", endpoint.path)
    said = [f"{endpoint.summary}."]
    if endpoint.run.__doc__:
        said.append(" ".join(inspect.cleandoc(endpoint.run.__doc__).split()))
    scope = {"": "nobody's", "any": "any", "peer": "peer"}.get(endpoint.scope)
    facts = [f"Scope: {scope or f'`{endpoint.scope}`'}."]
    if endpoint.accepts is not None:
        kind = "" if endpoint.accepts_type == "application/json" else f" ({endpoint.accepts_type})"
        facts.append(f"Body: `{_type(endpoint.accepts)}`{kind}.")
    if endpoint.is_page:
        facts.append("Answer: a page.")
    elif endpoint.returns is not None:
        facts.append(f"Answer: {endpoint.status} `{_type(endpoint.returns)}`.")
    else:
        facts.append(f"Answer: {endpoint.status}.")
    lines = [f"### `{endpoint.method} {path}`", "", " ".join(said), "", " ".join(facts), ""]
    lines += [f"- `?{name}=`: {meaning}" for name, meaning in endpoint.query.items()]
    lines += [""] if endpoint.query else []
    for name, example in (("Body", endpoint.accepts_example), ("Answer", endpoint.example)):
        if example is not None:
            text = json.dumps(msgspec.to_builtins(example), ensure_ascii=False)
            lines += [f"{name}, for example:", "", "```json", text, "```", ""]
    return "\n".join(lines)


def _type(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind)) if not hasattr(kind, "__args__") else "object"


PAGES = {"cli.md": cli_page, "routes.md": routes_page}


def main(names: Iterable[str] = PAGES) -> None:
    """Write the pages."""
    for name in names:
        (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")


if __name__ == "__main__":
    main()
