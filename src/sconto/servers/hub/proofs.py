"""The hub's signature under a grant: by it a merchant can show what it holds to a restored hub."""

from typing import TYPE_CHECKING, Any

from sconto.base.errors import InvalidInputError
from sconto.base.keys import KeySet, sign_compact, verify_compact
from sconto.store.ledger import Allotment

if TYPE_CHECKING:
    from sconto.servers.config import Home

GRANT_TYPE = "promo-grant+jws"


def prove(home: "Home", part: Allotment) -> str:
    """The signature under a grant."""
    return sign_compact(home.key, GRANT_TYPE, _claims(home, part))


def check_proof(home: "Home", part: Allotment, proof: str) -> None:
    """Raises InvalidInputError when this hub has not signed exactly this grant."""
    keys = KeySet([key.public for key in home.keys])
    if verify_compact(keys, GRANT_TYPE, proof, "proof") != _claims(home, part):
        raise InvalidInputError(
            "the hub has signed another grant", code="proof_mismatch", field="data.proof"
        )


def _claims(home: "Home", part: Allotment) -> dict[str, Any]:
    return {
        "iss": home.url,
        "aud": part.holder,
        "jti": part.allotment_id,
        "promotion_id": part.promotion_id,
        "uses": part.granted.uses,
        "amount_minor": part.granted.minor,
        "incarnation": part.incarnation,
        "epoch": part.epoch,
        **({"counter": part.counter} if part.counter else {}),
    }
