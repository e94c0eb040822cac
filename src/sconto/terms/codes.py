"""Codes that people type: how they compare, how secret ones are made, kept, and passed on.

Two codes are the same when their normal forms are: Unicode NFKC, without spaces, hyphens and
underscores, without case, and with the letters O, I and L read as the digits 0, 1 and 1. What a
shopper reads from a leaflet or hears on the telephone thus still works.

Secret codes are numbers of 75 bits in the form of a handle: `R1DQ-6ANW-WV3Q-RBS3`, whose last
symbol finds a slip. The n-th code of a promotion is the n-th number under a permutation that only
the secret key knows. So no two are alike, however many there are; a batch that was interrupted is
taken up at the number where it stopped and gives the same codes; and nobody can guess a code from
others. They are kept as digests under another key: whoever reads the database cannot use them, not
even short ones that came from elsewhere.
"""

import csv
import hashlib
import hmac
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sconto.base.errors import InvalidInputError, invariant
from sconto.base.ids import handle_from

#: Bits of chance in a secret code.
SECRET_BITS = 75
#: Bytes of the key under which codes are made.
CODE_KEY_BYTES = 32
#: Bytes of the digest under which a code is kept: half of SHA-256, since a million rows have it.
HASH_BYTES = 16
#: Rows of one CSV import.
IMPORT_ROWS_MAX = 1_000_000
#: Characters of a code.
CODE_LENGTH_MAX = 64

_IGNORED = re.compile(r"[\s\-_‐-―]+")
_LOOKALIKES = str.maketrans("oil", "011")
#: The permutation is a Feistel network over halves of 38 and 37 bits, which change each other in
#: turn under a keyed hash; four rounds of a good one suffice (Luby and Rackoff, 1988).
_LEFT_MASK, _RIGHT_MASK = 2**38 - 1, 2**37 - 1
_ROUNDS = 6


def normalise_code(text: str) -> str:
    """The form in which codes are compared and hashed; not for display.

    >>> normalise_code(" Summer-2O26 "), normalise_code("ＳＵＭＭＥＲ 2026")
    ('summer2026', 'summer2026')
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", _IGNORED.sub("", text)).translate(_LOOKALIKES)


def hash_code(key: bytes, text: str) -> bytes:
    """The digest under which a unique code is kept: of HMAC-SHA256 of its normal form 128 bits.

    >>> hash_code(b"k", "r1dq 6anw wv3q rbs3") == hash_code(b"k", "RIDQ-6ANW-WV3Q-RBS3")
    True
    """
    return hmac.digest(key, normalise_code(text).encode(), "sha256")[:HASH_BYTES]


def make_codes(
    key: bytes, promotion_id: str, first: int, count: int, *, prefix: str = ""
) -> Iterator[str]:
    """Codes number `first` to `first + count - 1` of a promotion, one by one, behind a prefix.

    >>> list(make_codes(bytes(32), "p", 0, 3))[1:] == list(make_codes(bytes(32), "p", 1, 2))
    True
    """
    invariant(len(key) == CODE_KEY_BYTES, "a key of codes has 32 random bytes")
    invariant(first >= 0 and first + count <= 2**SECRET_BITS, "there are that many codes")
    permuted = _permutation(hmac.digest(key, promotion_id.encode(), "sha256"))
    for number in range(first, first + count):
        yield prefix + handle_from(permuted(number))


def _permutation(key: bytes) -> Callable[[int], int]:
    rounds = [
        hashlib.blake2b(digest_size=5, key=key, salt=bytes([number])).copy
        for number in range(_ROUNDS)
    ]
    pairs = list(zip(rounds[::2], rounds[1::2], strict=True))

    def permuted(value: int) -> int:
        left, right = value >> 37, value & _RIGHT_MASK
        for even, odd in pairs:
            found = even()
            found.update(right.to_bytes(5, "big"))
            left ^= int.from_bytes(found.digest(), "big") & _LEFT_MASK
            found = odd()
            found.update(left.to_bytes(5, "big"))
            right ^= int.from_bytes(found.digest(), "big") & _RIGHT_MASK
        return left << 37 | right

    return permuted


def write_codes(codes: Iterable[str]) -> Iterator[str]:
    """CSV with the one column `code`, row by row: what is sent to a printer or a mailer."""
    yield "code\r\n"
    for code in codes:
        buffer = io.StringIO()
        csv.writer(buffer).writerow([code])
        yield buffer.getvalue()


def read_codes(text: str, key: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Row number, code and digest of each code of a CSV that has a column `code`.

    Raises InvalidInputError that names the first wrong row, once it is reached.

    >>> [row[:2] for row in read_codes("code,name\\nABCD,x\\nEF-GH,y\\n", b"key")]
    [(2, 'ABCD'), (3, 'EF-GH')]
    """
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    header = [name.strip().casefold() for name in _next(rows) or []]
    if "code" not in header:
        raise InvalidInputError(
            "the CSV has no column `code`", field="header", remedy="its first line names columns"
        )
    column = header.index("code")
    seen: dict[bytes, int] = {}
    while (row := _next(rows)) is not None:
        if not row:
            continue
        number = rows.line_num
        code = row[column].strip() if column < len(row) else ""
        if not code.isprintable() or not normalise_code(code) or len(code) > CODE_LENGTH_MAX:
            raise InvalidInputError(
                f"row {number} has no code of 1 to {CODE_LENGTH_MAX} characters",
                field=f"row[{number}].code",
            )
        found = hash_code(key, code)
        if found in seen:
            raise InvalidInputError(
                f"row {number} has the same code as row {seen[found]}",
                field=f"row[{number}].code",
                code="code_twice",
            )
        if len(seen) == IMPORT_ROWS_MAX:
            raise InvalidInputError(
                f"the CSV has more than {IMPORT_ROWS_MAX} codes", code="too_large", field="rows"
            )
        seen[found] = number
        yield number, code, found


def _next(rows: Any) -> list[str] | None:
    """The next row; None at the end."""
    try:
        return next(rows, None)
    except csv.Error as error:
        number = rows.line_num
        raise InvalidInputError(
            f"row {number} is no CSV: {error}", field=f"row[{number}]"
        ) from None
