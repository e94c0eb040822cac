"""What servers say to each other: signed requests, and events in gapless streams.

In: requests as bytes and headers, the peer's published keys, the instant. Out: who signed it and
what happened, or InvalidInputError with UCP's error code. Knows no socket and no store: the outbox
and the inbox live in `sconto.store`. Read `signatures.py` first.
"""

from sconto.federation.events import (
    EVENTS_TYPE,
    Event,
    decode_batch,
    encode_batch,
)
from sconto.federation.replay import ReplayGuard
from sconto.federation.signatures import (
    PROFILE_PATH,
    SIGNATURE_AGE_S,
    SignedBy,
    sign_request,
    verify_request,
)

__all__ = [
    "EVENTS_TYPE",
    "PROFILE_PATH",
    "SIGNATURE_AGE_S",
    "Event",
    "ReplayGuard",
    "SignedBy",
    "decode_batch",
    "encode_batch",
    "sign_request",
    "verify_request",
]
