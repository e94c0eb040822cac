"""Withdraw a frame: the merchant's signed word, above the sequence of what it withdraws."""

from typing import Literal

from sconto.base.documents import Document, from_builtins, to_builtins
from sconto.base.fields import NamedDigest, ServerUrl
from sconto.base.keys import KeySet, SigningKey, sign_compact, verify_compact
from sconto.frames.model import Sequence53
from sconto.frames.verify import check_parties, check_sequence

WITHDRAWAL_TYP = "promo-frame-withdrawal+jws"


class Withdrawal(Document, frozen=True):
    """The merchant's word that a frame must no longer be shown."""

    v: Literal[1]
    iss: ServerUrl
    aud: ServerUrl
    #: Above the sequence of the frame that it withdraws.
    seq: Sequence53
    withdraws: NamedDigest


def sign_withdrawal(key: SigningKey, withdrawal: Withdrawal) -> str:
    """Compact JWS of a withdrawal."""
    return sign_compact(key, WITHDRAWAL_TYP, to_builtins(withdrawal))


def verify_withdrawal(
    jws: str, keys: KeySet, *, issuer: str, audience: str, last_sequence: int | None
) -> Withdrawal:
    """A merchant's withdrawal, if its signature, parties and sequence hold.

    `last_sequence` as for `verify_frame`: a withdrawal must be above it, so that an old frame, sent
    again by somebody on the way, cannot come back.
    """
    claims = verify_compact(keys, WITHDRAWAL_TYP, jws, "withdrawal")
    withdrawal = from_builtins(claims, Withdrawal, what="the withdrawal", field="withdrawal")
    check_parties(withdrawal.iss, withdrawal.aud, issuer, audience, "withdrawal")
    above = None if last_sequence is None else last_sequence + 1
    check_sequence(withdrawal.seq, above, "withdrawal")
    return withdrawal
