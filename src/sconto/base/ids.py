"""Ids are distinct types of text; randomness comes in as an argument.

A generated id is sortable by time: 48 bits of milliseconds and 80 random bits, in Crockford
base32 (the ULID layout). A *handle* is what a person types: 15 symbols of Crockford base32
(75 bits) and one check symbol, in groups of four.
"""

import hashlib
from typing import NewType

from sconto.base.errors import InvalidInputError

PromotionId = NewType("PromotionId", str)
TermsDigest = NewType("TermsDigest", str)
FrameId = NewType("FrameId", str)
TokenId = NewType("TokenId", str)
OrderId = NewType("OrderId", str)
TenantId = NewType("TenantId", str)

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHECK = _CROCKFORD + "*~$=U"
_READ = {symbol: value for value, symbol in enumerate(_CHECK)} | {"O": 0, "I": 1, "L": 1}

#: Random bytes that `new_id` wants.
ID_RANDOM_BYTES = 10


def new_id(at_ms: int, random: bytes) -> str:
    """26 symbols, ordered by time: `new_id(0, bytes(10))` is 26 zeros."""
    return _base32((at_ms << 80) | int.from_bytes(random[:ID_RANDOM_BYTES], "big"), 26)


def handle_of(token_id: str) -> str:
    """The handle that corresponds to a token id, for typing and for a QR code.

    >>> handle_of("01HZX")
    'R1DQ-6ANW-WV3Q-RBS3'
    """
    return handle_from(int.from_bytes(hashlib.sha256(token_id.encode()).digest()[:10], "big") >> 5)


def handle_from(value: int) -> str:
    """A number of 75 bits in the form of a handle, with its check symbol.

    >>> handle_from(0), handle_from(2**75 - 1)
    ('0000-0000-0000-0000', 'ZZZZ-ZZZZ-ZZZZ-ZZZ7')
    """
    symbols = _base32(value, 15) + _CHECK[value % 37]
    return "-".join(symbols[i : i + 4] for i in range(0, 16, 4))


def normalise_handle(text: str) -> str:
    """Read what a person typed: any case, O for 0, I and L for 1, with or without groups.

    Raises InvalidInputError when the check symbol says that it was mistyped.
    """
    symbols = text.upper().replace("-", "").replace(" ", "")
    values = [_READ.get(symbol, -1) for symbol in symbols]
    if len(values) != 16 or any(value not in range(32) for value in values[:15]):
        raise InvalidInputError("a handle has 16 letters and digits", field="handle")
    number = 0
    for value in values[:15]:
        number = number * 32 + value
    if number % 37 != values[15]:
        raise InvalidInputError(
            "the handle is mistyped: its last symbol does not match",
            field="handle",
            remedy="read it again from the token",
        )
    symbols = _base32(number, 15) + _CHECK[number % 37]
    return "-".join(symbols[i : i + 4] for i in range(0, 16, 4))


#: Two symbols at a time: a million codes are made at once.
_PAIRS = [left + right for left in _CROCKFORD for right in _CROCKFORD]


def _base32(value: int, length: int) -> str:
    bits = 5 * length
    head = _CROCKFORD[value >> bits - 5 & 31] if length % 2 else ""
    start = bits - 10 - 5 * (length % 2)
    return head + "".join([_PAIRS[value >> shift & 1023] for shift in range(start, -1, -10)])
