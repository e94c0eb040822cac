"""The few rules of style that protect correctness, held by reading the syntax trees.

The pure rooms decide about money and rights. They must give the same answer for the same
arguments, for ever: so no float, no clock, no randomness, no environment, no I/O, no printing.
Each rule is a function from a module to complaints, and each is shown to be able to fail.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "sconto"

PURE_ROOMS = frozenset(
    "base terms ledger frames tokens cart wallet redemption statistics clearing".split()
)

#: Modules whose calls read the clock, randomness, the environment, or do I/O.
IMPURE_MODULES = frozenset(
    (
        "asyncio http httpx litestar logging os psycopg random requests secrets shutil socket "
        "sqlite3 sqlalchemy subprocess tempfile threading urllib3 uuid uvicorn"
    ).split()
)

CLOCK_CALLS = frozenset(
    (
        "datetime.now datetime.utcnow datetime.today date.today time.time time.time_ns "
        "time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns time.sleep "
        "time.localtime time.gmtime"
    ).split()
)
CLOCK_NAMES = frozenset(call.removeprefix("time.") for call in CLOCK_CALLS if call[:5] == "time.")
RANDOM_NAMES = frozenset(["uuid1", "uuid4", "urandom", "token_bytes", "token_hex", "token_urlsafe"])

#: What `sconto.client` may know of the package (it is published to retailers' programs).
CLIENT_ROOMS = frozenset({"base", "terms", "tokens", "client"})

#: Modules that a compiled wheel has compiled, as paths below SOURCE.
PROJECT = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())
HOOKS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
COMPILED = frozenset(f"{name}.py" for name in HOOKS["custom"]["modules"].split())

MARKER = re.compile(r"\b(TODO|FIXME|XXX)\b")


@dataclass(frozen=True, slots=True)
class Module:
    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def room(self) -> str:
        return self.path.split("/")[0].removesuffix(".py")

    @property
    def is_pure(self) -> bool:
        return self.room in PURE_ROOMS

    def complaint(self, node: ast.AST, why: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {why}"


Rule = Callable[[Module], Iterator[str]]


def dotted(node: ast.AST) -> str:
    """The last two names of a dotted expression: `datetime.datetime.now` -> `datetime.now`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before.rpartition('.')[2]}.{node.attr}" if before else node.attr
    return ""


def imported(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    """Every import as (node, module, name); name is empty for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, ""
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield node, node.module or "", alias.name


def no_float(module: Module) -> Iterator[str]:
    """No float literal, no `float(...)`, and no `/`, which makes floats of integers."""
    if not module.is_pure:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield module.complaint(node, f"float literal {node.value}")
        elif isinstance(node, ast.Call) and dotted(node.func) == "float":
            yield module.complaint(node, "float(...) makes a float")
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield module.complaint(node, "`/` makes a float: use // or a named rounding")


def no_clock(module: Module) -> Iterator[str]:
    """Time is an argument."""
    if not module.is_pure:
        return
    tree = module.tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and dotted(node) in CLOCK_CALLS:
            yield module.complaint(node, f"{dotted(node)} reads the clock; take `now` instead")
    for node, name, what in imported(tree):
        if name == "time" and what in CLOCK_NAMES:
            yield module.complaint(node, f"time.{what} reads the clock; take `now` instead")


def no_print(module: Module) -> Iterator[str]:
    """What a room has to say it returns."""
    if not module.is_pure:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "print":
            yield module.complaint(node, "print")


def no_randomness(module: Module) -> Iterator[str]:
    """Ids and random bytes are arguments; also a key is made from bytes that the caller gives."""
    if not module.is_pure:
        return
    tree = module.tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = dotted(node).rpartition(".")[2]
            if name in RANDOM_NAMES or dotted(node).startswith(("random.", "secrets.")):
                yield module.complaint(node, f"{dotted(node)} is random; take it as an argument")
        if isinstance(node, ast.Call) and re.search(r"Key\.generate\w*$", dotted(node.func)):
            yield module.complaint(node, "a key is made from random bytes that the caller gives")
    for node, name, what in imported(tree):
        if name in {"random", "secrets"} or what in RANDOM_NAMES:
            yield module.complaint(node, f"{name} {what}".strip() + " is random")


def no_outside(module: Module) -> Iterator[str]:
    """No I/O, environment, threads or database in a pure room."""
    if not module.is_pure:
        return
    tree = module.tree
    for node, name, _ in imported(tree):
        if name.split(".")[0] in IMPURE_MODULES or name == "urllib.request":
            yield module.complaint(node, f"{name} reaches outside; a pure room takes arguments")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in {"open", "input"}:
            yield module.complaint(node, f"{dotted(node.func)} reaches outside")


def no_assert(module: Module) -> Iterator[str]:
    """`python -O` removes `assert`: what must hold is said with `invariant(condition, why)`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert):
            yield module.complaint(node, "assert vanishes under -O: use invariant(condition, why)")


def no_marker(module: Module) -> Iterator[str]:
    """What is left to do belongs in an issue."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if found := MARKER.search(line):
            yield f"{module.path}:{number}: leftover {found[1]}"


def has_room_label(module: Module) -> Iterator[str]:
    """Every module says what it is; a package's `__init__` is the label of its room."""
    if not ast.get_docstring(module.tree):
        yield f"{module.path}:1: no docstring (the room label)"


def client_knows_little(module: Module) -> Iterator[str]:
    """The client imports base, terms and tokens only."""
    if module.room != "client":
        return
    for node, name, what in imported(module.tree):
        if name == "sconto":
            name = f"sconto.{what}"
        top, _, rest = name.partition(".")
        if top == "sconto" and rest.split(".")[0] not in CLIENT_ROOMS:
            yield module.complaint(node, f"sconto.client may not import {name}")


def no_class_options(module: Module) -> Iterator[str]:
    """No `frozen=True` and the like in a class statement that is compiled: mypyc forgets them."""
    if module.path not in COMPILED:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and node.keywords:
            yield module.complaint(node, "inherit the options from a kind in cart/records.py")


#: Each rule with snippets that it must refuse and snippets that it must pass, all in `place`.
SHOWN: list[tuple[Rule, str, list[str], list[str]]] = [
    (
        no_float,
        "cart/price.py",
        ["rate = 0.5", "x = float(price)", "half = price / 2", "price /= 2", "x = 1e3"],
        ["rate = 50", "half = price // 2", "ok = isinstance(value, float)", "x = '0.5'"],
    ),
    (
        no_clock,
        "terms/schedule.py",
        [
            "import datetime\nnow = datetime.datetime.now(tz)",
            "from datetime import datetime\nnow = datetime.utcnow()",
            "import time\nnow = time.time()",
            "from time import time_ns\nnow = time_ns()",
            "default_clock = time.monotonic",
        ],
        ["from datetime import datetime\nat = datetime.fromtimestamp(seconds, UTC)"],
    ),
    (no_print, "ledger.py", ["print('x')"], ["fingerprint(key)", "text = 'print(1)'"]),
    (
        no_randomness,
        "tokens/issue.py",
        [
            "import random",
            "from secrets import token_bytes",
            "x = os.urandom(16)",
            "x = uuid.uuid4()",
            "make_id = uuid4",
            "key = Ed25519PrivateKey.generate()",
            "key = ec.generate_private_key; key = OKPKey.generate_key('Ed25519')",
        ],
        ["key = Ed25519PrivateKey.from_private_bytes(seed)", "names = terms.generate(seed)"],
    ),
    (
        no_outside,
        "base/keys.py",
        ["import os", "from sqlalchemy import select", "import urllib.request", "open('key.pem')"],
        ["from urllib.parse import urlsplit", "state = opened(door)", "import hashlib"],
    ),
    (no_assert, "store/writer.py", ["assert total == 0"], ["invariant(ok, 'why')"]),
    (
        no_marker,
        "servers/hub/routes.py",
        ["x = 1  # TO" + "DO later", '"""FIX' + 'ME"""', "# XX" + "X"],
        ["todo = 1", "mastodon = 'TODOS'"],
    ),
    (has_room_label, "store/__init__.py", ["x = 1", "", "# comment"], ['"""What comes in."""']),
    (
        client_knows_little,
        "client.py",
        ["from sconto.store import read", "import sconto.ledger", "from sconto import cart"],
        ["from sconto.base import money", "from sconto.tokens.verify import verify", "import json"],
    ),
    (
        no_class_options,
        "cart/turns.py",
        ["class Taken(Struct, frozen=True): ...", "class Taken(Struct, eq=False, gc=False): ..."],
        ["class Taken(Passing): ...", "class Taken: ..."],
    ),
]
RULES = [rule for rule, *_ in SHOWN]


def modules() -> list[Module]:
    return [
        Module(path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    complaints = [complaint for module in modules() for complaint in rule(module)]
    assert not complaints, "\n".join([rule.__doc__ or "", *complaints])


@pytest.mark.parametrize(("rule", "place", "bad", "good"), SHOWN, ids=[r.__name__ for r in RULES])
def test_the_rule_can_fail(rule: Rule, place: str, bad: list[str], good: list[str]) -> None:
    """Goal: no rule is asleep. Method: it refuses each bad snippet and passes each good one."""
    for snippet in bad:
        assert list(rule(Module(place, snippet))), f"should be refused: {snippet}"
    for snippet in good:
        assert not list(rule(Module(place, snippet))), f"should pass: {snippet}"


def test_rules_of_purity_leave_the_outer_rooms_alone() -> None:
    """Goal: servers may do I/O. Method: all bad snippets of the pure rules, in an outer room."""
    for rule in (no_float, no_clock, no_print, no_randomness, no_outside):
        for shown, _, bad, _ in SHOWN:
            if shown is rule:
                assert not [c for text in bad for c in rule(Module("servers/hub/app.py", text))]


def test_what_is_compiled_is_there_and_not_beside_its_source() -> None:
    """Goal: a compiled wheel lacks no module, and no source is hidden by a compiled one."""
    assert {module.path for module in modules()} >= COMPILED
    assert not [*SOURCE.rglob("*.so"), *SOURCE.rglob("*.pyd")]


def test_there_is_code_to_read() -> None:
    assert modules(), f"no module under {SOURCE}"
