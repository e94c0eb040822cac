"""Codes compare as people read them; secret ones never repeat and are kept as digests."""

from itertools import pairwise

import pytest

from sconto.base.errors import InvalidInputError, InvariantError
from sconto.base.ids import normalise_handle
from sconto.terms.codes import (
    IMPORT_ROWS_MAX,
    hash_code,
    make_codes,
    normalise_code,
    read_codes,
    write_codes,
)

KEY = bytes(range(32))


@pytest.mark.parametrize(
    "text",
    [
        "SUMMER20",
        "summer20",
        "Summer-20",
        " summer 20 ",
        "SUMMER2O",
        "ＳＵＭＭＥＲ２０",
        "sum_mer20",
    ],
)
def test_spellings_of_one_code(text: str) -> None:
    assert normalise_code(text) == "summer20"


def test_different_codes_stay_different() -> None:
    assert normalise_code("SUMMER20") != normalise_code("SUMMER21")
    assert normalise_code("STRASSE") == normalise_code("Straße")


def test_ten_thousand_codes_are_all_different_and_all_handles() -> None:
    codes = list(make_codes(KEY, "p", 0, 10_000))
    assert len({hash_code(KEY, code) for code in codes}) == 10_000
    for code in codes[:200]:
        assert normalise_handle(code) == code


def test_an_interrupted_batch_goes_on_where_it_stopped() -> None:
    whole = list(make_codes(KEY, "p", 0, 50))
    assert list(make_codes(KEY, "p", 0, 20)) + list(make_codes(KEY, "p", 20, 30)) == whole


def test_another_key_or_promotion_has_other_codes() -> None:
    first = set(make_codes(KEY, "p", 0, 100))
    assert first.isdisjoint(make_codes(KEY, "q", 0, 100))
    assert first.isdisjoint(make_codes(bytes(32), "p", 0, 100))


def test_neighbours_have_nothing_in_common() -> None:
    """Goal: a code says nothing about the next. Method: about half of the bits differ."""
    codes = list(make_codes(KEY, "p", 0, 200))
    alike = sum(a == b for one, next_ in pairwise(codes) for a, b in zip(one, next_, strict=True))
    # Three hyphens of 19 always are, and of the other 16 one in 32 by chance.
    assert alike < 199 * 4


def test_a_short_key_is_our_mistake() -> None:
    with pytest.raises(InvariantError):
        list(make_codes(b"short", "p", 0, 1))


def test_csv_out_and_in_again() -> None:
    codes = ["ABCD-EFGH", 'with "quotes", and comma']
    assert [code for _, code, _ in read_codes("".join(write_codes(codes)), KEY)] == codes


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "header"),
        ("name\nx\n", "header"),
        ("code\n\nABC\nab c\n", "row[4].code"),
        ("code\n - \n", "row[2].code"),
        (f"code\n{'x' * 65}\n", "row[2].code"),
        ("name,code\nx\n", "row[2].code"),
        ("code\na\0b\n", "row[2].code"),
        ('code\n"a"b\n', "row[2]"),
        (f"code\n{'x' * 200_000}\n", "row[2]"),
    ],
)
def test_a_wrong_row_is_named(text: str, field: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        list(read_codes(text, KEY))
    assert error.value.field == field


def test_rows_are_numbered_as_an_editor_does() -> None:
    """Also behind empty lines, a byte order mark, and a field over several lines."""
    text = '\ufeffname,code\r\n\r\nx, ABC \r\n"two\r\nlines",DEF\r\n'
    assert [(row, code) for row, code, _ in read_codes(text, KEY)] == [(3, "ABC"), (5, "DEF")]


def test_a_prefix_stands_before_every_code() -> None:
    plain = list(make_codes(KEY, "p", 0, 5))
    assert list(make_codes(KEY, "p", 0, 5, prefix="XMAS-")) == [f"XMAS-{code}" for code in plain]


def test_an_import_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert IMPORT_ROWS_MAX == 1_000_000
    monkeypatch.setattr("sconto.terms.codes.IMPORT_ROWS_MAX", 2)
    with pytest.raises(InvalidInputError) as error:
        list(read_codes("code\na\nb\nc\n", KEY))
    assert error.value.code == "too_large"
