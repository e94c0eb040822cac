"""The one table at the edge: code -> HTTP status -> RFC 9457 problem document.

A peer's error never becomes ours: what a peer answered wrongly is a 502 with our own words. Words
of the caller that an error repeats are cut short here, without control characters and secrets.
"""

import re
from typing import Any

import msgspec

from sconto.base.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotAuthenticatedError,
    NotFoundError,
    PeerError,
    ScontoError,
    UnavailableError,
    WireError,
)

#: Problem types are relative references into our own documentation.
TYPE_BASE = "https://sconto.example/problems/"
MEDIA_TYPE = "application/problem+json"

#: No problem document is larger, whatever came in.
PROBLEM_BYTES_MAX = 4096
#: Bytes of each part, in UTF-8. Escaped for JSON they may be twice as many.
_DETAIL_MAX, _FIELD_MAX, _REMEDY_MAX, _FIGURE_MAX = 800, 240, 700, 300
#: What is looked at of a text, so that a megabyte costs nothing.
_READ_MAX = 4000
#: API keys, JWS (tokens, proofs), and codes of ours: `<id>.<digest>`; also when they are cut off.
_SECRET = re.compile(
    r"sconto_[0-9A-Za-z]{8,}_[A-Za-z0-9_-]*|eyJ[A-Za-z0-9_.-]{8,}|[0-9A-Z]{26}\.[A-Za-z0-9_.-]{8,}"
)

#: Status of codes that differ from the status of their class.
STATUS_OF_CODE = {
    "too_large": 413,
    "unsupported_media_type": 415,
    "method_not_allowed": 405,
    "too_slow": 408,
    "headers_too_large": 431,
    "rate_limited": 429,
    "signature_missing": 401,
    "signature_invalid": 401,
    "signature_expired": 401,
    "signature_replayed": 401,
    "key_not_found": 401,
    "peer_not_trusted": 403,
    "storage_full": 507,
    "gone": 410,
}

#: Status of each class of errors, the most special first.
STATUS_OF_CLASS: tuple[tuple[type[ScontoError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (NotAuthenticatedError, 401),
    (ForbiddenError, 403),
    (UnavailableError, 503),
    (InvalidInputError, 400),
    (WireError, 502),
    (PeerError, 502),
)


def status_of(error: ScontoError, *, is_document: bool = False) -> int:
    """HTTP status of an error.

    The codes of signatures mean "who are you" (401) on a request, and "this document is not
    right" (422) when they are about a frame, a token or terms inside it (`is_document`).
    """
    status = STATUS_OF_CODE.get(error.code)
    if status == 401 and is_document:
        return 422
    if status is not None:
        return status
    for kind, status_of_kind in STATUS_OF_CLASS:
        if isinstance(error, kind):
            return status_of_kind
    return 400


def problem(error: ScontoError, *, is_document: bool = False, instance: str = "") -> dict[str, Any]:
    """The problem document: type, title, status, detail, and what helps to mend it."""
    document: dict[str, Any] = {
        "type": TYPE_BASE + error.code,
        "title": error.code.replace("_", " ").capitalize(),
        "status": status_of(error, is_document=is_document),
        "detail": plain(error.message, _DETAIL_MAX),
        "code": error.code,
    }
    for name, value, most in (
        ("field", error.field, _FIELD_MAX),
        ("remedy", error.remedy, _REMEDY_MAX),
        ("instance", instance or None, _FIELD_MAX),
    ):
        if value is not None:
            document[name] = plain(value, most)
    if isinstance(error, UnavailableError):
        document["retry_after_s"] = error.retry_after_s
    room = PROBLEM_BYTES_MAX - len(encode(document))
    for name, value in error.figures.items():
        if isinstance(value, str):
            value = plain(value, _FIGURE_MAX)
        room -= len(encode({name: value}))
        if room > 0:
            document.setdefault(name, value)
    return document


def plain(text: str, max_bytes: int) -> str:
    """A text that may repeat what a caller sent, for an answer or a log.

    Cut short, control and invisible characters replaced, what looks like a secret left out.

    >>> plain("no field 'a\\nb' in eyJhbGciOiJFZERTQSJ9.e30.c2ln", 100)
    "no field 'a\ufffdb' in (left out)"
    >>> plain("x" * 50, 10)
    'xxxxxxx…'
    """
    read = without_secrets(text[:_READ_MAX])
    if not read.isprintable():
        read = "".join(c if c.isprintable() else "\ufffd" for c in read)
    encoded = read.encode()
    if len(encoded) <= max_bytes and len(text) <= _READ_MAX:
        return read
    return encoded[: max_bytes - 3].decode(errors="ignore") + "…"


def without_secrets(text: str) -> str:
    """A text with every API key, token, proof and code in it left out."""
    return _SECRET.sub("(left out)", text)


def encode(document: dict[str, Any]) -> bytes:
    """Bytes of a problem; anything that is not JSON in its figures becomes text."""
    return msgspec.json.encode(document, enc_hook=str)
