"""`sconto promotions …`: lint, read and try terms out, on files alone; no server is needed.

A path is a file with one document of terms or a list of them, or a folder whose `.json` files are
such. What is tried out may be a draft, and may happen at any instant.
"""

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from sconto.base.canonical import parse_json
from sconto.base.clock import rfc3339, to_ms
from sconto.base.errors import InvalidInputError
from sconto.base.money import format_money
from sconto.cli.options import FILE_BYTES_MAX, JsonOption, read_bytes, read_document
from sconto.cli.output import out, show

if TYPE_CHECKING:
    from sconto.cart import Evaluation
    from sconto.terms import Terms

commands = typer.Typer(
    help="Terms in files: lint, read, try out; no server needed.", no_args_is_help=True
)

TermsArgument = Annotated[
    list[Path], typer.Argument(help="Files of terms, or folders of them; - reads standard input.")
]
CartOption = Annotated[Path, typer.Option("--cart", help="A JSON file with the cart.")]
HolderOption = Annotated[
    Path | None,
    typer.Option(
        "--holder",
        help="A JSON file with the holder; if not given, a proven one with a token of each"
        " promotion that wants one, whose typed codes are good.",
    ),
]
StrangerOption = Annotated[
    bool, typer.Option("--stranger", help="As somebody who proved nothing and holds nothing.")
]
AtOption = Annotated[
    str | None, typer.Option("--at", help="When, such as 2026-12-24T18:00:00+01:00; now if absent.")
]


class Found(NamedTuple):
    """Terms and where they were."""

    place: str
    terms: "Terms"


@commands.command()
def lint(paths: TermsArgument, as_json: JsonOption = False) -> None:
    """What to look at again in terms; exit code 1 when there is something."""
    from sconto.terms import lint as lint_terms

    found = read_terms(paths)
    every = [one.terms for one in found]
    findings = [
        {
            "place": one.place,
            "promotion_id": one.terms.promotion_id,
            **msgspec.structs.asdict(finding),
        }
        for one in found
        for finding in lint_terms(one.terms, every)
    ]
    if as_json:
        show({"findings": findings}, as_json=True)
    for one in findings if not as_json else ():
        _say(f"{one['place']}: {one['severity']} {one['code']} at {one['field']}: {one['message']}")
    if findings:
        raise typer.Exit(1)


@commands.command()
def sentence(
    paths: TermsArgument,
    language: Annotated[str, typer.Option("--language", help="en or de.")] = "en",
    as_json: JsonOption = False,
) -> None:
    """What each document promises, in one plain sentence."""
    from sconto.terms import sentence as sentence_of

    said = {one.terms.promotion_id: sentence_of(one.terms, language) for one in read_terms(paths)}
    if as_json:
        show(said, as_json=True)
        return
    for promotion_id, text in said.items():
        _say(f"{promotion_id}: {text}")


@commands.command()
def evaluate(
    paths: TermsArgument,
    cart: CartOption,
    holder: HolderOption = None,
    stranger: StrangerOption = False,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a cart gets of the promotions in files; with --json the whole evaluation."""
    from sconto.cart import encode_evaluation
    from sconto.cart.words import in_words

    result = _try_out(paths, cart, holder, stranger=stranger, at=at).evaluation
    if as_json:
        _say(encode_evaluation(result).decode())
        return
    for one in result.applied:
        amount = format_money(one.amount_minor, result.currency)
        _say(f"{one.promotion_id}: {amount} off, {one.title}")
    refused = [one.promotion_id or one.presented_code or one.token_id for one in result.refused]
    if refused:
        _say(f"refused: {', '.join(str(one) for one in refused)} (see explain)")
    _say(list(in_words(msgspec.structs.replace(result, applied=(), refused=(), hints=())))[-1])


@commands.command()
def explain(
    paths: TermsArgument,
    cart: CartOption,
    holder: HolderOption = None,
    stranger: StrangerOption = False,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why each promotion applies, where each cent goes; or why it does not, and what is missing."""
    from sconto.cart.words import in_words

    tried = _try_out(paths, cart, holder, stranger=stranger, at=at)
    lines = list(in_words(tried.evaluation))
    if as_json:
        evaluation = msgspec.to_builtins(tried.evaluation)
        show({"at": rfc3339(tried.at_ms), "evaluation": evaluation, "lines": lines}, as_json=True)
        return
    for line in lines if stranger else [*lines, *_unheard(tried)]:
        _say(line)


@commands.command()
def schema(as_json: JsonOption = False) -> None:
    """The JSON Schema of terms, for editors; with --json in one line."""
    from sconto.terms import terms_schema

    _say(json.dumps(terms_schema(), ensure_ascii=False, indent=None if as_json else 2))


# --- reading --------------------------------------------------------------------------------------


def read_terms(paths: list[Path]) -> list[Found]:
    """The terms of files and folders, by path; one promotion stands in them once."""
    found: list[Found] = []
    seen: dict[str, str] = {}
    for path in paths:
        for file in _files(path):
            for one in _of_file(file):
                known = seen.setdefault(one.terms.promotion_id, one.place)
                if known != one.place:
                    raise InvalidInputError(
                        f"{one.place} is of the promotion {one.terms.promotion_id}, as {known} is",
                        field="promotion_id",
                    )
                found.append(one)
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(one for one in path.rglob("*.json") if one.is_file())
    if not files:
        raise InvalidInputError(f"{path} has no .json files", field="paths")
    return files


def _of_file(path: Path) -> Iterator[Found]:
    from sconto.terms import terms_from

    value = parse_json(read_bytes(path), max_bytes=FILE_BYTES_MAX, what=str(path))
    if not isinstance(value, list):
        yield Found(str(path), terms_from(value, what=str(path)))
        return
    for i, one in enumerate(value):
        yield Found(f"{path}[{i}]", terms_from(one, what=str(path), field=f"[{i}]"))


def _instant(text: str | None) -> int:
    if text is None:
        return time.time_ns() // 1_000_000
    try:
        return to_ms(datetime.fromisoformat(text))
    except ValueError:
        raise InvalidInputError(
            f"{text!r} is no instant with a UTC offset",
            field="--at",
            remedy="write it as 2026-12-24T18:00:00Z",
        ) from None


# --- trying out -----------------------------------------------------------------------------------


class Tried(NamedTuple):
    """An evaluation and what it was made of."""

    evaluation: "Evaluation"
    terms: list[Found]
    at_ms: int


def _try_out(
    paths: list[Path], cart_path: Path, holder_path: Path | None, *, stranger: bool, at: str | None
) -> Tried:
    """Every promotion of the files is considered, not only what an index would find."""
    from sconto.base.documents import from_builtins
    from sconto.cart import Holder, Promotion, evaluate
    from sconto.cart.model import STRANGER, cart_from
    from sconto.cart.trial import holder_of_all

    if stranger and holder_path is not None:
        raise InvalidInputError("a stranger is no holder", field="--stranger")
    found = read_terms(paths)
    cart = cart_from(read_document(cart_path), field="")
    at_ms = _instant(at)
    promotions = [Promotion.of(one.terms) for one in found]
    if stranger:
        holder = STRANGER
    elif holder_path is not None:
        holder = from_builtins(read_document(holder_path), Holder, what=str(holder_path))
    else:
        holder = holder_of_all(promotions, cart, at_ms=at_ms)
    return Tried(evaluate(cart, promotions, holder, at_ms=at_ms), found, at_ms)


def _unheard(tried: Tried) -> Iterator[str]:
    """Promotions that nothing called: no token of them is held, none of their codes was typed."""
    heard: set[Any] = {one.promotion_id for one in tried.evaluation.applied}
    heard |= {one.promotion_id for one in tried.evaluation.refused}
    for one in tried.terms:
        if one.terms.promotion_id not in heard:
            kind = one.terms.access.__struct_config__.tag
            yield f"Not asked for: {one.terms.promotion_id}: its access is {kind}"


def _say(line: str) -> None:
    """One line, as it is: rich would wrap and colour it."""
    if out().is_terminal:
        out().print(line, markup=False)
    else:
        sys.stdout.write(line + "\n")
