"""The pages of the reference that are made from the code are fresh."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_reference_make", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "routes.md"])
def test_the_page_is_what_the_code_says(name: str) -> None:
    fresh = maker().PAGES[name]()
    kept = (FOLDER / name).read_text(encoding="utf-8")
    assert kept == fresh, f"{name} is stale: run .venv/bin/python docs/reference/make.py"


def test_every_command_has_a_help_text() -> None:
    page = maker().cli_page()
    for block in page.split("\n### ")[1:]:
        lines = block.splitlines()
        assert lines[2].strip(), f"no help: {lines[0]}"
