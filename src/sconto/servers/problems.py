"""The one table at the edge: code -> HTTP status -> RFC 9457 problem document.

A peer's error never becomes ours: what a peer answered wrongly is a 502 with our own words.
"""

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

#: Status of codes that differ from the status of their class.
STATUS_OF_CODE = {
    "too_large": 413,
    "unsupported_media_type": 415,
    "method_not_allowed": 405,
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
        "detail": error.message,
        "code": error.code,
    }
    for name, value in (
        ("field", error.field),
        ("remedy", error.remedy),
        ("instance", instance or None),
    ):
        if value is not None:
            document[name] = value
    if isinstance(error, UnavailableError):
        document["retry_after_s"] = error.retry_after_s
    for name, value in error.figures.items():
        document.setdefault(name, value)
    return document


def encode(document: dict[str, Any]) -> bytes:
    """Bytes of a problem; anything that is not JSON in its figures becomes text."""
    return msgspec.json.encode(document, enc_hook=str)
