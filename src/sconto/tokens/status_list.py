"""Token Status List: one bit per token, compressed and signed, for merchants to keep.

draft-ietf-oauth-status-list: bits LSB first, DEFLATE in zlib format, base64url; a JWS of type
`statuslist+jwt` whose `sub` is its own address. One list has 2^17 places (16 KiB of bits), so that
every list stays small however many tokens there are, and the herd is large enough that fetching a
list tells nothing about one holder. Give places at random, never in order of issue.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct, to_builtins

from sconto.base.canonical import b64url, b64url_decode
from sconto.base.clock import MS_PER_SECOND
from sconto.base.documents import from_builtins
from sconto.base.errors import InvalidInputError, invariant
from sconto.base.fields import Seconds
from sconto.base.keys import KeySet, SigningKey, sign_compact, verify_compact

STATUS_LIST_TYP = "statuslist+jwt"
#: Places in one list.
STATUS_LIST_SIZE = 2**17
_BYTES = STATUS_LIST_SIZE // 8
#: Random bits do not compress: 16 KiB, in base64 twice, and room for the rest.
_JWS_BYTES_MAX = 2**15


class _Bits(Struct, frozen=True, kw_only=True):
    bits: Literal[1]
    lst: str


class _Document(Struct, frozen=True, kw_only=True):
    """Unknown members are passed over: the draft allows more of them (`aggregation_uri`)."""

    sub: str
    iat: Seconds
    status_list: _Bits
    exp: Seconds | None = None
    ttl: Annotated[int, Meta(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class StatusList:
    """The revoked places of one list.

    >>> revoked = StatusList.of([3])
    >>> revoked.is_revoked(3), revoked.is_revoked(4)
    (True, False)
    """

    bits: bytes

    @classmethod
    def of(cls, revoked: Iterable[int]) -> "StatusList":
        """The list in which exactly these places are revoked."""
        bits = bytearray(_BYTES)
        for index in revoked:
            invariant(0 <= index < STATUS_LIST_SIZE, "a place is inside the list")
            bits[index >> 3] |= 1 << (index & 7)
        return cls(bytes(bits))

    def is_revoked(self, index: int) -> bool:
        """Whether the token with this `idx` was revoked; a place outside the list is an error."""
        if not 0 <= index < 8 * len(self.bits):
            raise InvalidInputError(
                f"the status list has no place {index}",
                field="token.status.status_list.idx",
                code="malformed",
            )
        return bool(self.bits[index >> 3] >> (index & 7) & 1)

    def encode(self) -> str:
        """`lst` of the draft: base64url of the compressed bits."""
        return b64url(zlib.compress(self.bits, 9))

    @classmethod
    def decode(cls, lst: str) -> "StatusList":
        """Read `lst`; more than 2^17 places, or a bomb, is refused before it is unpacked."""
        inflate = zlib.decompressobj()
        try:
            bits = inflate.decompress(b64url_decode(lst), _BYTES + 1)
        except (ValueError, zlib.error):
            raise _malformed("the list is not compressed base64url") from None
        if len(bits) > _BYTES:
            raise _malformed(f"a list has at most {STATUS_LIST_SIZE} places")
        if not inflate.eof or inflate.unused_data:
            raise _malformed("the list is cut off, or goes on after its end")
        return cls(bits)


@dataclass(frozen=True, slots=True)
class PublishedStatus:
    """A verified status list: as old as `issued_at_ms`, to be fetched again after `ttl_s`."""

    statuses: StatusList
    issued_at_ms: int
    expires_at_ms: int | None
    ttl_s: int | None


def sign_status_list(
    key: SigningKey, statuses: StatusList, *, uri: str, issued_s: int, expires_s: int, ttl_s: int
) -> str:
    """The list as the hub publishes it at `uri` (`Accept: application/statuslist+jwt`)."""
    document = _Document(
        sub=uri,
        iat=issued_s,
        exp=expires_s,
        ttl=ttl_s,
        status_list=_Bits(bits=1, lst=statuses.encode()),
    )
    return sign_compact(key, STATUS_LIST_TYP, to_builtins(document))


def verify_status_list(jws: str, keys: KeySet, *, uri: str, at_ms: int) -> PublishedStatus:
    """The list of the hub whose keys these are, published at `uri` and not expired.

    How old a list may be, and what to do with an older one, the promotion says; the caller looks
    at `issued_at_ms`. It also refuses a list older than the one that it has.
    """
    said = verify_compact(keys, STATUS_LIST_TYP, jws, "status_list", max_bytes=_JWS_BYTES_MAX)
    document = from_builtins(said, _Document, what="the status list", field="status_list")
    if document.sub != uri:
        raise InvalidInputError(
            "the status list is another one than was asked for",
            field="status_list.sub",
            code="audience_mismatch",
        )
    if document.exp is not None and at_ms >= document.exp * MS_PER_SECOND:
        raise InvalidInputError(
            "the status list has expired", field="status_list.exp", code="status_list_expired"
        )
    return PublishedStatus(
        statuses=StatusList.decode(document.status_list.lst),
        issued_at_ms=document.iat * MS_PER_SECOND,
        expires_at_ms=None if document.exp is None else document.exp * MS_PER_SECOND,
        ttl_s=document.ttl,
    )


def _malformed(message: str) -> InvalidInputError:
    return InvalidInputError(message, field="status_list.status_list.lst", code="malformed")
