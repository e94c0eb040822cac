"""The page of pains names tests that exist and that name their thread."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "pains.md"
#: Number, thread, function, file.
ROW = re.compile(
    r"\| (\d+) \| \[[^]]+ (\d+)\]\([^)]+/\2\) \| [^|]+ "
    r"\| \[`(test_\w+)`\]\((\.\./\.\./tests/[^)]+)\) \|"
)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))


def docstrings(path: Path) -> dict[str, str]:
    """By name the functions of a file, in classes or not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {one.name: ast.get_docstring(one) or "" for one in functions}


def test_every_row_of_the_page_is_read_and_every_pain_has_one() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert len(ROWS) == len([line for line in lines if re.match(r"\| \d", line)])
    assert {int(number) for number, *_ in ROWS} == set(range(1, 66))
    assert len({function for _, _, function, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("number", "thread", "function", "file"), ROWS, ids=[r[2] for r in ROWS])
def test_the_test_exists_and_names_its_thread(
    number: str, thread: str, function: str, file: str
) -> None:
    found = docstrings((PAGE.parent / file).resolve())
    assert function in found
    assert f"_{thread}_" in function or f"pain {number}, " in found[function]
    assert f"_{thread}_" in function or f"#{thread}" in found[function]
