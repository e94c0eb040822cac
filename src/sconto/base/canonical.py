"""Bytes that everybody computes alike, and the digests that name them.

`canonical` is RFC 8785 (JCS); a digest of a document is SHA-256 of those bytes in the notation of
RFC 9530 (`sha-256=:…:`); a frame id is the same digest as an RFC 6920 name.
"""

import base64
import hashlib
import json
from typing import Any

import msgspec
import rfc8785

from sconto.base.errors import InvalidInputError

#: JSON deeper than this is refused; no document of ours comes near.
JSON_DEPTH_MAX = 32
#: A document of more values is refused before it is parsed: a megabyte of `[],` would cost a third
#: of a second, and no honest document of that size has so many.
JSON_VALUES_MAX = 100_000
#: RFC 8785 numbers are IEEE doubles: beyond this an integer would change on its way.
JSON_INTEGER_MAX = 2**53 - 1


def canonical(document: Any) -> bytes:
    """RFC 8785 bytes of a JSON value made of dict, list, str, int, bool and None."""
    try:
        if is_plain(document):
            return msgspec.json.encode(document, order="deterministic")
        return rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise InvalidInputError(f"the document has no canonical form: {error}") from None


def is_plain(value: Any) -> bool:
    """Whether msgspec writes what RFC 8785 says, five times as quickly as the reference code.

    So it is where keys are ASCII, since both then sort them alike, and integers within bounds.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-JSON_INTEGER_MAX <= value <= JSON_INTEGER_MAX)
    if kind is dict:
        for key, one in value.items():
            if type(key) is not str or not key.isascii():
                return False
            if type(one) is not str and not is_plain(one):
                return False
        return True
    if kind is not list and kind is not tuple:
        return False
    return all(type(one) is str or is_plain(one) for one in value)


def b64url(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64url_decode(text: str) -> bytes:
    """Bytes of unpadded base64url; ValueError on anything else, also on a second spelling."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if b64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


def digest(data: bytes) -> str:
    """SHA-256 in the notation of RFC 9530: `sha-256=:<base64>:`."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def ni(data: bytes) -> str:
    """SHA-256 as an RFC 6920 name: `ni:///sha-256;<base64url>`."""
    return "ni:///sha-256;" + b64url(hashlib.sha256(data).digest())


def parse_json(body: bytes, *, max_bytes: int, what: str = "body") -> Any:
    """Strict JSON of bounded size and depth: no doubled key, NaN, huge integer, NUL, surrogate.

    Numbers with a fraction or exponent are refused too: money, counts and rates are integers.
    Raises InvalidInputError, which names what is wrong and where it can be told, the key.
    """
    if len(body) > max_bytes:
        raise InvalidInputError(
            f"{what} is larger than {max_bytes} bytes", code="too_large", limit_bytes=max_bytes
        )
    if body.count(b",") > JSON_VALUES_MAX:
        raise InvalidInputError(
            f"{what} has more than {JSON_VALUES_MAX} values",
            code="too_large",
            limit_values=JSON_VALUES_MAX,
        )
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_no_number,
            parse_constant=_no_number,
            parse_int=_integer,
        )
    except InvalidInputError:
        raise
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{what} is not UTF-8 at byte {error.start}", code="invalid_json"
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{what} is not JSON: {error.msg} at line {error.lineno} column {error.colno}",
            code="invalid_json",
        ) from None
    except RecursionError:
        raise InvalidInputError(f"{what} is nested too deeply", code="invalid_json") from None
    # A document of few brackets cannot be deep, one without escapes has no NUL or lone surrogate.
    if "\\u" in text or text.count("{") + text.count("[") > JSON_DEPTH_MAX:
        _check(value, what)
    return value


def parse_quickly(body: bytes) -> Any | None:
    """What `parse_json` gives, in a sixth of the time; None: not found out here, ask that.

    1. Read and written again it is the same: so no key stands twice, and every text and number is
       spelt in the usual way, without a NUL or lone surrogate.
    2. It has so few brackets that it cannot be deep.
    3. No number in it has 16 digits, none is a float: all are within 2^53.
    """
    if not body.startswith((b"{", b"[")) or b"\\u" in body:
        return None
    if body.count(b"{") + body.count(b"[") > JSON_DEPTH_MAX:
        return None
    digits = body.translate(DIGITS_AS_ZERO)
    for start in _LONG_NUMBERS:
        if start in digits:
            return None
    try:
        value = PLAIN_DECODER.decode(body)
        return value if _ENCODER.encode(value) == body else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _no_float(text: str) -> Any:
    raise ValueError(text)


#: Of any JSON, with a ValueError for a float.
PLAIN_DECODER = msgspec.json.Decoder(float_hook=_no_float)
_ENCODER = msgspec.json.Encoder()
DIGITS_AS_ZERO = bytes(ord("0") if chr(byte).isdecimal() else byte for byte in range(256))
#: What stands before a number that was written by us; in a text these are found too, seldom.
_LONG_NUMBERS = tuple(before + b"0" * 16 for before in (b":", b",", b"[", b"-"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidInputError(
                    f"the key {key!r} stands twice", code="invalid_json", field=key
                )
            seen.add(key)
    return result


def _no_number(text: str) -> Any:
    raise InvalidInputError(
        f"{text} is not an integer", code="invalid_json", remedy="use integer minor units"
    )


def _integer(text: str) -> int:
    if len(text) > 17 or abs(value := int(text)) > JSON_INTEGER_MAX:
        raise InvalidInputError(f"the integer {text[:20]} is beyond 2^53 - 1", code="invalid_json")
    return value


def _check(value: Any, what: str) -> None:
    """Walk without recursion: depth is bounded and every text can be encoded again."""
    stack: list[tuple[Any, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, str):
            _check_text(item, what)
        elif isinstance(item, (dict, list)):
            if depth > JSON_DEPTH_MAX:
                raise InvalidInputError(
                    f"{what} is nested deeper than {JSON_DEPTH_MAX}", code="invalid_json"
                )
            if isinstance(item, dict):
                for key in item:
                    _check_text(key, what)
                stack.extend((child, depth + 1) for child in item.values())
            else:
                stack.extend((child, depth + 1) for child in item)


def _check_text(text: str, what: str) -> None:
    if "\0" in text:  # PostgreSQL cannot keep it
        raise InvalidInputError(f"{what} has a NUL in a text", code="invalid_json")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} has a lone surrogate", code="invalid_json") from None
