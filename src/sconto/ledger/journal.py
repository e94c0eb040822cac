"""The journal: what happened, once, in order, each entry chained to the one before.

Statistics and statements are folds of these entries (`statistics.py`, `clearing.py`); nothing
else is counted. Entries are written in the transaction that made them true.
"""

import hashlib
from typing import Literal, get_args

import msgspec

Kind = Literal[
    "shown",  # unverified: a frame with the promotion was shown
    "clipped",  # a token was issued, or received
    "reserved",  # presented at a checkout; units are held
    "refused",  # presented at a checkout and not applied, with the reason
    "redeemed",  # used; `is_direct` when no reservation came before
    "released",  # a reservation was given back by act
    "expired",  # a reservation was given back by time
    "reversed",  # an opposite entry after redeemed; `is_complete` when nothing of it is left
]
ENTRY_KINDS: tuple[str, ...] = get_args(Kind)

#: Hash before the first entry.
GENESIS = bytes(32)


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One thing that happened to one promotion."""

    kind: Kind
    promotion_id: str
    #: Public URL of the merchant whose frame, token or checkout it is.
    merchant: str
    at_ms: int
    #: The calendar day of `at_ms` in the time zone of the terms, `YYYY-MM-DD`.
    day: str
    terms_digest: str = ""
    frame_id: str = ""
    token_id: str = ""
    order_id: str = ""
    redemption_id: str = ""
    allotment_id: str = ""
    #: The discount, or the part of it that is taken back; minor units of `currency`.
    amount_minor: int = 0
    currency: str = ""
    is_direct: bool = False
    is_complete: bool = False
    #: Reason code of a refusal.
    reason: str = ""


def encode_entry(entry: Entry) -> bytes:
    """The bytes that are hashed and stored; the same entry gives the same bytes."""
    return msgspec.json.encode(entry)


def decode_entry(data: bytes) -> Entry:
    """The entry of stored bytes; raises msgspec.ValidationError on anything else."""
    return msgspec.json.decode(data, type=Entry)


def chain(previous: bytes, entry: bytes) -> bytes:
    """Hash of an entry that follows `previous`; a changed or lost entry breaks all later ones."""
    return hashlib.sha256(previous + entry).digest()
