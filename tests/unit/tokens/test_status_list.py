"""Status lists: the draft's own examples, bounded unpacking, and only the list asked for."""

import contextlib
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.base.canonical import b64url, b64url_decode
from sconto.base.errors import InvalidInputError, InvariantError
from sconto.base.keys import KeySet, SigningKey, sign_compact
from sconto.tokens import STATUS_LIST_SIZE, StatusList, sign_status_list, verify_status_list
from sconto.tokens.status_list import STATUS_LIST_TYP, PublishedStatus

HUB = "https://hub.example"
URI = f"{HUB}/status/1"
KEY = SigningKey.from_seed(b"\x01" * 32)
KEYS = KeySet([KEY.public])
NOW_S = 1_795_000_000
#: Token Status List, section 4.1: bits 1 0 0 1 1 1 0 1, 1 1 0 0 0 1 0 1, LSB first.
DRAFT_BITS = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
DRAFT_LST = "eNrbuRgAAhcBXQ"

places = st.sets(st.integers(0, STATUS_LIST_SIZE - 1), max_size=50)


def refused(act: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        act()
    return caught.value


def verify(jws: str, **changed: Any) -> PublishedStatus:
    arguments: dict[str, Any] = {"uri": URI, "at_ms": NOW_S * 1000, **changed}
    return verify_status_list(jws, KEYS, **arguments)


def said(**changed: Any) -> str:
    document = {
        "sub": URI, "iat": NOW_S, "exp": NOW_S + 60, "ttl": 30,
        "status_list": {"bits": 1, "lst": DRAFT_LST}, **changed,
    }  # fmt: skip
    return sign_compact(KEY, STATUS_LIST_TYP, {k: v for k, v in document.items() if v is not None})


def test_the_draft_s_example_is_read() -> None:
    statuses = StatusList.decode(DRAFT_LST)
    assert statuses.bits == bytes([0xB9, 0xA3])
    assert [int(statuses.is_revoked(i)) for i in range(16)] == DRAFT_BITS


def test_ours_starts_with_the_draft_s_bits() -> None:
    ours = StatusList.of(i for i, bit in enumerate(DRAFT_BITS) if bit)
    assert ours.bits == bytes([0xB9, 0xA3]) + bytes(STATUS_LIST_SIZE // 8 - 2)


@given(places)
def test_exactly_the_revoked_places_are_revoked(revoked: set[int]) -> None:
    statuses = StatusList.decode(StatusList.of(revoked).encode())
    assert statuses == StatusList.of(revoked)
    assert all(statuses.is_revoked(place) for place in revoked)
    assert sum(byte.bit_count() for byte in statuses.bits) == len(revoked)


def test_places_outside_the_list() -> None:
    for place in (-1, STATUS_LIST_SIZE):
        assert refused(lambda place=place: StatusList.of([]).is_revoked(place)).code == "malformed"
        with pytest.raises(InvariantError):
            StatusList.of([place])
    assert refused(lambda: StatusList.decode(DRAFT_LST).is_revoked(16)).code == "malformed"


@pytest.mark.parametrize(
    "lst",
    [
        "",
        "A",
        "ü",
        DRAFT_LST + "=",
        DRAFT_LST[:-2],
        b64url(b"\xb9\xa3"),
        b64url(b64url_decode(DRAFT_LST) + b"x"),
        b64url(zlib.compress(bytes(STATUS_LIST_SIZE // 8 + 1))),
        b64url(zlib.compress(bytes(100_000_000))),
    ],
    ids=range(9),
)
def test_what_is_no_list_is_refused(lst: str) -> None:
    """The last two are too long; the last would be 100 MB if it were unpacked."""
    assert refused(lambda: StatusList.decode(lst)).code == "malformed"


@given(st.binary(max_size=60).map(b64url) | st.text(max_size=30))
def test_any_text_raises_nothing_else(lst: str) -> None:
    with contextlib.suppress(InvalidInputError):
        StatusList.decode(lst)


def test_what_is_published_is_verified() -> None:
    statuses = StatusList.of([1, 99_999])
    jws = sign_status_list(KEY, statuses, uri=URI, issued_s=NOW_S, expires_s=NOW_S + 60, ttl_s=30)
    expected = PublishedStatus(statuses, NOW_S * 1000, (NOW_S + 60) * 1000, 30)
    assert verify(jws) == expected
    assert verify(said(exp=None, ttl=None)).expires_at_ms is None


def test_a_list_that_does_not_compress_still_fits() -> None:
    """Half of all tokens revoked at random: the longest list there can be."""
    state, bits = 1, bytearray()
    for _ in range(STATUS_LIST_SIZE // 8):
        state = state * 6364136223846793005 + 1442695040888963407 & 2**64 - 1
        bits.append(state >> 56)
    statuses = StatusList(bytes(bits))
    jws = sign_status_list(KEY, statuses, uri=URI, issued_s=NOW_S, expires_s=NOW_S + 1, ttl_s=1)
    assert len(jws) > 29_000
    assert verify(jws).statuses == statuses


@pytest.mark.parametrize(
    ("jws", "changed", "code", "field"),
    [
        (said(), {"uri": f"{HUB}/status/2"}, "audience_mismatch", "status_list.sub"),
        (said(), {"at_ms": (NOW_S + 60) * 1000}, "status_list_expired", "status_list.exp"),
        (said(sub=None), {}, "invalid_input", "status_list.sub"),
        (said(iat=None), {}, "invalid_input", "status_list.iat"),
        (
            said(status_list={"bits": 2, "lst": DRAFT_LST}),
            {},
            "invalid_input",
            "status_list.status_list.bits",
        ),
        (said(status_list={"bits": 1}), {}, "invalid_input", "status_list.status_list.lst"),
        (
            sign_compact(KEY, "JWT", {"sub": URI}),
            {},
            "signature_invalid",
            "status_list.header.typ",
        ),
    ],
)
def test_a_wrong_list_is_refused(jws: str, changed: dict[str, Any], code: str, field: str) -> None:
    error = refused(lambda: verify(jws, **changed))
    assert (error.code, error.field) == (code, field)


def test_every_changed_symbol_is_refused() -> None:
    jws = said()
    for place in range(len(jws)):
        symbol = "A" if jws[place] != "A" else "B"
        refused(lambda jws=jws[:place] + symbol + jws[place + 1 :]: verify(jws))
