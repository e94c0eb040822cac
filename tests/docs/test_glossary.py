"""The glossary is law: every public noun of the rooms that decide stands in it."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

GLOSSARY = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
ROOMS = "terms ledger frames tokens cart wallet redemption statistics federation".split()

#: Nouns that explain themselves where they are used.
ALLOWED = {
    "FrameWarning",  # a line of `frame build`'s output
}


def nouns(room: str) -> set[str]:
    """Public classes of a room: those of `__all__`, or all that a single module defines."""
    module = importlib.import_module(f"sconto.{room}")
    classes = {name for name, value in vars(module).items() if inspect.isclass(value)}
    if hasattr(module, "__all__"):
        return classes & set(module.__all__)
    return {
        name
        for name in classes
        if not name.startswith("_") and vars(module)[name].__module__ == module.__name__
    }


def undefined(names: set[str], text: str) -> set[str]:
    """Names that a text does not define, as `Name` or in the plural `Name`s."""
    return names - set(re.findall(r"`([A-Z][A-Za-z]+)`", text))


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_noun_is_a_word_of_the_glossary(room: str) -> None:
    found = nouns(room)
    assert found, f"no public noun in {room}"
    missing = undefined(found - ALLOWED, GLOSSARY)
    assert not missing, f"not in docs/glossary.md: {sorted(missing)}"


def test_the_allow_list_has_nothing_that_is_not_needed() -> None:
    everything = set().union(*(nouns(room) for room in ROOMS))
    assert everything >= ALLOWED
    assert undefined(ALLOWED, GLOSSARY) == ALLOWED


def test_no_word_is_defined_twice() -> None:
    """Goal: one meaning each. Method: the bold words at the beginning of an entry, split."""
    words = [
        word.strip()
        for entry in re.findall(r"^- \*\*(.+?)\*\*", GLOSSARY, re.MULTILINE)
        for word in entry.split(",")
    ]
    twice = {word for word in words if words.count(word) > 1}
    assert not twice


def test_the_check_can_fail() -> None:
    assert undefined({"Terms", "Quota"}, "**terms**: the document: `Terms`") == {"Quota"}
