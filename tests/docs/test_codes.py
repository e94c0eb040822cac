"""Every code that a client can see is documented, and nothing is documented that is gone.

Codes are collected from the syntax trees: class attributes and assignments of `code`, and what is
passed as `code` to an error, directly or through functions that hand a parameter on to one.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from sconto.base import errors
from sconto.cart import ReasonCode
from sconto.servers import problems

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference" / "codes.md").read_text(encoding="utf-8")

#: What a pattern stands for, where it does not name a field of the request.
FILLED = {
    "<who>_unreachable": {"hub_unreachable", "merchant_unreachable"},
    "token_<use>": {"token_expired", "token_redeemed", "token_revoked", "token_deleted"},
    "token_<status>": {"token_expired", "token_redeemed", "token_revoked", "token_moved"},
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def codes_of(node: ast.AST) -> Iterator[str]:
    """The texts that an expression can be; a part that is computed stands as `<name>`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from codes_of(node.body)
        yield from codes_of(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        parts = [
            part.value if isinstance(part, ast.Constant) else f"<{ast.unparse(part.value)}>"
            for part in node.values
            if isinstance(part, ast.Constant | ast.FormattedValue)
        ]
        yield "".join(str(part) for part in parts)


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def parameters(function: Function) -> list[str]:
    arguments = function.args
    return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def defaults(function: Function) -> dict[str, ast.AST]:
    arguments = function.args
    positional = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
    values: dict[str, ast.AST] = dict(
        zip(reversed(positional), reversed(arguments.defaults), strict=False)
    )
    for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if value is not None:
            values[one.arg] = value
    return values


class Collector:
    """Codes of a set of modules."""

    def __init__(self, trees: Iterable[ast.Module]) -> None:
        self.found: set[str] = set()
        self._trees = list(trees)
        #: function name -> (its parameter that is a code, place among the positional ones)
        self._helpers: dict[str, tuple[str, int]] = {}
        while self._round():
            pass

    def _round(self) -> bool:
        before = (len(self.found), len(self._helpers))
        for tree in self._trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                    self._class(node)
                elif isinstance(node, Function):
                    self._function(node)
                elif isinstance(node, ast.Assign) and any(
                    isinstance(target, ast.Attribute) and target.attr == "code"
                    for target in node.targets
                ):
                    self.found.update(codes_of(node.value))
        return before != (len(self.found), len(self._helpers))

    def _class(self, node: ast.ClassDef) -> None:
        for line in node.body:
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                self.found.update(codes_of(line.value))

    def _function(self, function: Function) -> None:
        names = parameters(function)
        local = {
            ast.unparse(node.targets[0]): node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and len(node.targets) == 1
        }
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or (value := self._code_in(call)) is None:
                continue
            if isinstance(value, ast.Name) and value.id in names:
                self._helpers.setdefault(function.name, (value.id, names.index(value.id)))
                if value.id in defaults(function):
                    self.found.update(codes_of(defaults(function)[value.id]))
            elif isinstance(value, ast.Name) and value.id in local:
                self.found.update(codes_of(local[value.id]))
            else:
                self.found.update(codes_of(value))

    def _code_in(self, call: ast.Call) -> ast.AST | None:
        name = name_of(call)
        parameter, place = self._helpers.get(name, ("code", 10**6))
        if name == "Refused":
            place = 0
        elif not name.endswith("Error") and name not in self._helpers:
            return None
        for keyword in call.keywords:
            if keyword.arg == parameter:
                return keyword.value
        return call.args[place] if place < len(call.args) else None


@cache
def in_source() -> frozenset[str]:
    """Codes of the whole package, patterns as they stand."""
    files = sorted((ROOT / "src" / "sconto").rglob("*.py"))
    return frozenset(Collector(ast.parse(path.read_text(encoding="utf-8")) for path in files).found)


def raised() -> set[str]:
    """All codes of problems, patterns filled where they are not about a field."""
    found = set(in_source())
    for pattern, filled in FILLED.items():
        if pattern in found:
            found = found - {pattern} | filled
    return found


def disputes() -> set[str]:
    """Why the hub does not pay: what `_dispute` and `dispute` give, and what settling adds."""
    found: set[str] = set()
    hub = ROOT / "src" / "sconto" / "servers" / "hub"
    text = "".join(
        (hub / f"{one}.py").read_text(encoding="utf-8") for one in ("reports", "counters")
    )
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name in ("_dispute", "dispute"):
            for line in ast.walk(node):
                if isinstance(line, ast.Return) and line.value is not None:
                    found.update(codes_of(line.value))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "why":
            found.update(codes_of(node.value))
    return found


def documented(heading: str) -> dict[str, str]:
    """Codes in the tables below a heading, with the rest of their row."""
    section = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL
    )
    assert section, f"codes.md has no section {heading!r}"
    rows = re.findall(r"^\| `([a-z0-9_<>]+)` \|(.*)\|$", section[1], re.MULTILINE)
    names = [name for name, _ in rows]
    assert len(set(names)) == len(names), f"twice in {heading!r}: {names}"
    return dict(rows)


def test_every_problem_code_is_documented_and_none_is_gone() -> None:
    known = documented("Problems").keys() | documented("Problems of OpenID4VCI").keys()
    assert raised() - known == set(), "raised and not in docs/reference/codes.md"
    assert known - raised() == set(), "in docs/reference/codes.md and not raised any more"


def test_the_status_table_has_no_code_that_nothing_raises() -> None:
    assert set(problems.STATUS_OF_CODE) <= in_source()


def test_every_reason_is_documented_in_order_of_precedence() -> None:
    assert list(documented("Reasons of refusal")) == [str(code) for code in ReasonCode]


def test_every_dispute_is_documented() -> None:
    assert disputes()
    assert documented("Disputes").keys() == disputes()


@pytest.mark.parametrize("code", sorted(problems.STATUS_OF_CODE))
def test_the_documented_status_is_the_one_of_the_table(code: str) -> None:
    row = documented("Problems")[code]
    assert str(problems.STATUS_OF_CODE[code]) in row.partition("|")[0]


@pytest.mark.parametrize(
    "kind",
    [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ScontoError)
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_documented_status_is_the_one_of_the_class(kind: type[errors.ScontoError]) -> None:
    row = documented("Problems")[kind.code]
    assert str(problems.status_of(kind("why"))) in row.partition("|")[0]


def test_the_collector_sees_every_way_to_name_a_code() -> None:
    """Goal: no code slips through. Method: one snippet with each way that our source has."""
    text = """
class OwnError(ScontoError):
    code = "of_class"

def wrong(message, field, code="of_default"):
    return OwnError(message, code=code)

def asking(peer, *, refused="of_keyword"):
    raise OwnError(peer, code=refused)

def main(who, is_old):
    code = "of_local" if is_old else "of_other_local"
    wrong("x", "f", "of_helper")
    asking("p", refused="of_call")
    OwnError("x", code=code)
    OwnError("x", code="old" if is_old else "new")
    OwnError("x", code=f"{who}_away")
    Refused("of_ledger", 1, 2)
    error.code = "of_assignment"
    print("x", code="of_nobody")
"""
    assert Collector([ast.parse(text)]).found == {
        "of_class", "of_default", "of_keyword", "of_local", "of_other_local", "of_helper",
        "of_call", "old", "new", "<who>_away", "of_ledger", "of_assignment",
    }  # fmt: skip
