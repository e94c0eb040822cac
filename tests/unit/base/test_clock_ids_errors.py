"""Instants, generated ids, handles, and the shape of errors."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.base.clock import day_of, from_ms, rfc3339, to_ms
from sconto.base.errors import (
    InvalidInputError,
    InvariantError,
    LocalError,
    PeerError,
    ScontoError,
    UnavailableError,
    WireError,
    invariant,
)
from sconto.base.ids import ID_RANDOM_BYTES, handle_of, new_id, normalise_handle

instants = st.integers(0, 253_402_300_799_999)


@given(instants)
def test_an_instant_survives_the_wire(at_ms: int) -> None:
    text = rfc3339(at_ms)
    assert text.endswith("Z")
    assert to_ms(datetime.fromisoformat(text)) == at_ms
    assert to_ms(from_ms(at_ms, "America/New_York")) == at_ms


def test_milliseconds_are_written_where_there_are_any() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1) == "1970-01-01T00:00:00.001Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999Z"


def test_an_instant_needs_an_offset() -> None:
    with pytest.raises(ValueError, match="offset"):
        to_ms(datetime(2017, 10, 30))
    assert to_ms(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0


def test_a_day_is_a_day_of_its_zone() -> None:
    midnight_in_new_york = to_ms(datetime(2017, 10, 30, 4, tzinfo=UTC))
    assert day_of(midnight_in_new_york, "America/New_York") == date(2017, 10, 30)
    assert day_of(midnight_in_new_york - 1, "America/New_York") == date(2017, 10, 29)


@given(instants, instants, st.binary(min_size=ID_RANDOM_BYTES, max_size=ID_RANDOM_BYTES))
def test_ids_are_ordered_by_time(first_ms: int, second_ms: int, random: bytes) -> None:
    first, second = new_id(first_ms, random), new_id(second_ms, random)
    assert len(first) == 26
    assert (first < second) == (first_ms < second_ms)


@given(st.text(max_size=40))
def test_a_handle_can_be_typed_in_any_way(token_id: str) -> None:
    handle = handle_of(token_id)
    assert normalise_handle(handle) == handle
    sloppy = handle.replace("-", " ").lower().replace("0", "o").replace("1", "l")
    assert normalise_handle(sloppy) == handle


@given(
    st.text(max_size=40), st.integers(0, 15), st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
)
def test_one_wrong_symbol_is_noticed(token_id: str, place: int, symbol: str) -> None:
    """37 is prime and above 32, so a changed symbol always changes the remainder."""
    symbols = list(handle_of(token_id).replace("-", ""))
    if symbols[place] != symbol:
        symbols[place] = symbol
        with pytest.raises(InvalidInputError):
            normalise_handle("".join(symbols))


@given(st.text(max_size=40))
def test_two_swapped_neighbours_are_noticed(token_id: str) -> None:
    symbols = handle_of(token_id).replace("-", "")
    for i in range(14):
        if symbols[i] != symbols[i + 1]:
            swapped = symbols[:i] + symbols[i + 1] + symbols[i] + symbols[i + 2 :]
            with pytest.raises(InvalidInputError):
                normalise_handle(swapped)


@given(st.text(max_size=40))
def test_any_text_as_a_handle_raises_nothing_else(text: str) -> None:
    try:
        assert normalise_handle(normalise_handle(text)) == normalise_handle(text)
    except InvalidInputError as error:
        assert error.field == "handle"


def test_an_error_carries_what_the_problem_document_needs() -> None:
    error = InvalidInputError("no", code="too_low", field="a[0].b", remedy="more", needed=3)
    assert (error.code, error.field, error.remedy, error.figures) == (
        "too_low", "a[0].b", "more", {"needed": 3},
    )  # fmt: skip
    assert str(error) == "no"
    assert InvalidInputError("no").code == "invalid_input"
    assert UnavailableError("later", retry_after_s=9).retry_after_s == 9


def test_a_peer_s_error_is_not_ours() -> None:
    assert issubclass(WireError, PeerError)
    assert not issubclass(PeerError, LocalError)
    assert not issubclass(InvariantError, ScontoError)


def test_an_invariant_stays_on() -> None:
    invariant(True, "fine")
    with pytest.raises(InvariantError, match="why"):
        invariant(False, "why")
