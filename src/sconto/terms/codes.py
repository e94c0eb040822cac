"""Codes that people type: how they compare, how secret ones are made, kept, and passed on.

Two codes are the same when their normal forms are: Unicode NFKC, without spaces, hyphens and
underscores, without case, and with the letters O, I and L read as the digits 0, 1 and 1. What a
shopper reads from a leaflet or hears on the telephone thus still works.

Secret codes are numbers of 75 bits in the form of a handle: `R1DQ-6ANW-WV3Q-RBS3`, whose last
symbol finds a slip. The n-th code of a promotion is the n-th number under a permutation that only
the secret key knows. So no two are alike, however many there are; a batch that was interrupted is
taken up at the number where it stopped and gives the same codes; and nobody can guess a code from
others. They are kept as digests: whoever reads the database cannot use them.
"""

import csv
import hashlib
import hmac
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator

from sconto.base.canonical import b64url
from sconto.base.errors import InvalidInputError, invariant
from sconto.base.ids import handle_from

#: Bits of chance in a secret code.
SECRET_BITS = 75
#: Bytes of the key under which codes are made.
CODE_KEY_BYTES = 32
#: Rows of one CSV import.
IMPORT_ROWS_MAX = 1_000_000

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


def hash_code(text: str) -> str:
    """The digest under which a unique code is kept: SHA-256 of its normal form, base64url.

    >>> hash_code("r1dq 6anw wv3q rbs3") == hash_code("RIDQ-6ANW-WV3Q-RBS3")
    True
    """
    return b64url(hashlib.sha256(normalise_code(text).encode()).digest())


def make_codes(key: bytes, promotion_id: str, first: int, count: int) -> Iterator[str]:
    """Codes number `first` to `first + count - 1` of a promotion, one by one.

    >>> list(make_codes(bytes(32), "p", 0, 3))[1:] == list(make_codes(bytes(32), "p", 1, 2))
    True
    """
    invariant(len(key) == CODE_KEY_BYTES, "a key of codes has 32 random bytes")
    invariant(first >= 0 and first + count <= 2**SECRET_BITS, "there are that many codes")
    own = hmac.digest(key, promotion_id.encode(), "sha256")
    for number in range(first, first + count):
        yield handle_from(_permuted(own, number))


def _permuted(key: bytes, value: int) -> int:
    left, right = value >> 37, value & _RIGHT_MASK
    for number in range(0, _ROUNDS, 2):
        left ^= _mixed(key, number, right) & _LEFT_MASK
        right ^= _mixed(key, number + 1, left) & _RIGHT_MASK
    return left << 37 | right


def _mixed(key: bytes, number: int, half: int) -> int:
    data = half.to_bytes(5, "big")
    found = hashlib.blake2b(data, digest_size=5, key=key, salt=bytes([number])).digest()
    return int.from_bytes(found, "big")


def write_codes(codes: Iterable[str]) -> Iterator[str]:
    """CSV with the one column `code`, row by row: what is sent to a printer or a mailer."""
    yield "code\r\n"
    for code in codes:
        buffer = io.StringIO()
        csv.writer(buffer).writerow([code])
        yield buffer.getvalue()


def read_codes(text: str) -> list[str]:
    """Codes of a CSV that has a column `code`; InvalidInputError names the first wrong row.

    >>> read_codes("code,name\\nABCD,x\\nEF-GH,y\\n")
    ['ABCD', 'EF-GH']
    """
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    header = [name.strip().casefold() for name in next(rows, [])]
    if "code" not in header:
        raise InvalidInputError("the CSV has no column `code`", field="header")
    column = header.index("code")
    seen: dict[str, int] = {}
    codes: list[str] = []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        code = row[column].strip() if column < len(row) else ""
        normal = normalise_code(code)
        if not normal or len(code) > 64:
            raise InvalidInputError(
                f"row {number} has no code of 1 to 64 characters", field=f"row[{number}].code"
            )
        if normal in seen:
            raise InvalidInputError(
                f"row {number} has the same code as row {seen[normal]}",
                field=f"row[{number}].code",
                code="code_twice",
            )
        if len(codes) == IMPORT_ROWS_MAX:
            raise InvalidInputError(
                f"the CSV has more than {IMPORT_ROWS_MAX} codes",
                code="too_large",
                field="rows",
            )
        seen[normal] = number
        codes.append(code)
    return codes
