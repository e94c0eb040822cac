"""Scopes, and the cookie of a signed-in browser. API keys are in tests/contract/test_access.py."""

import base64

import pytest

from sconto.base.errors import ForbiddenError
from sconto.servers.principal import (
    SCOPES,
    SESSION_LIFE_MS,
    Principal,
    make_session,
    session_key_id,
)

NOON_MS = 1_500_000_000_000
SECRET = bytes(range(32))
KEY_ID = "01HZX00000000000000000000K"


def principal(*scopes: str) -> Principal:
    return Principal("acme", "brand", frozenset(scopes))


# --- scopes ---------------------------------------------------------------------------------------


def test_a_scope_allows_itself_only() -> None:
    for scope in SCOPES.keys() - {"admin"}:
        allowed = {other for other in SCOPES if principal(scope).may(other)}
        assert allowed == {scope}


def test_admin_may_everything_but_say_when_it_happened() -> None:
    """Goal: an administrator cannot date a redemption back. Method: every scope but `replay`."""
    admin = principal("admin")
    assert {scope for scope in SCOPES if admin.may(scope)} == SCOPES.keys() - {"replay"}
    assert principal("admin", "replay").may("replay")
    assert admin.is_operator
    assert not principal("checkout").is_operator


def test_nobody_may_nothing() -> None:
    assert not any(principal().may(scope) for scope in SCOPES)


def test_the_missing_scope_is_named_and_explained() -> None:
    principal("checkout").require("checkout")
    with pytest.raises(ForbiddenError) as refused:
        principal("checkout").require("reverse")
    error = refused.value
    assert error.figures == {"scope": "reverse"}
    assert "reverse" in error.message
    assert SCOPES["reverse"] in str(error.remedy)


# --- sessions -------------------------------------------------------------------------------------


def test_a_session_says_whose_key_it_is_until_it_ends() -> None:
    cookie = make_session(SECRET, KEY_ID, NOON_MS)
    assert session_key_id(SECRET, cookie, NOON_MS) == KEY_ID
    assert session_key_id(SECRET, cookie, NOON_MS + SESSION_LIFE_MS - 1) == KEY_ID
    assert session_key_id(SECRET, cookie, NOON_MS + SESSION_LIFE_MS) is None


def test_a_session_of_another_server_is_none() -> None:
    cookie = make_session(bytes(32), KEY_ID, NOON_MS)
    assert session_key_id(SECRET, cookie, NOON_MS) is None


def test_no_changed_byte_of_a_cookie_passes() -> None:
    """Goal: nobody makes a session but us. Method: change every character, and cut it anywhere."""
    cookie = make_session(SECRET, KEY_ID, NOON_MS)
    for place, symbol in enumerate(cookie):
        for other in ("A" if symbol != "A" else "B", ".", "é", "\0", ""):
            if other != symbol:
                forged = cookie[:place] + other + cookie[place + 1 :]
                assert session_key_id(SECRET, forged, NOON_MS) is None
        assert session_key_id(SECRET, cookie[:place], NOON_MS) is None


@pytest.mark.parametrize(
    "cookie", ["", ".", "..", "e30.", "e30", "é.é", "\ud800.AAAA", "e30." + "A" * 43, "x" * 10_000]
)
def test_nonsense_is_no_session(cookie: str) -> None:
    assert session_key_id(SECRET, cookie, NOON_MS) is None


def test_a_longer_life_cannot_be_written_in() -> None:
    """Goal: the end is signed. Method: keep the signature, put a later end in the payload."""
    payload, _, mac = make_session(SECRET, KEY_ID, NOON_MS).partition(".")
    text = base64.urlsafe_b64decode(payload + "==").decode()
    later = text.replace(str(NOON_MS + SESSION_LIFE_MS), str(NOON_MS * 2))
    assert later != text
    forged = base64.urlsafe_b64encode(later.encode()).decode().rstrip("=")
    assert session_key_id(SECRET, f"{forged}.{mac}", NOON_MS) is None
