"""What a wallet decides: is this token as promised, can it still be used, which ones to present.

In: what a shopper was shown (a frame's manifest), tokens, terms, carts, instants. Out: values, or
InvalidInputError where a hub did not keep its promise. Knows no store, no network, no clock.

1. A shopper sees an offer in a frame. The frame's id names every byte of the manifest, so what was
   shown is a `Promise` that nobody can change afterwards.
2. The hub issues a token. It is kept only if it says exactly what was promised, for the holder's
   own key (`keep`).
3. At a checkout the wallet presents the tokens that take something off this cart (`choose`), and
   none that would be used up for nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from sconto.base.canonical import b64url_decode, parse_json
from sconto.base.clock import MS_PER_SECOND, day_of
from sconto.base.errors import InvalidInputError
from sconto.base.keys import JWS_BYTES_MAX
from sconto.cart import Cart, Evaluation, HeldToken, Holder, PromotionIndex, evaluate
from sconto.frames import Manifest, frame_id
from sconto.frames.model import read_manifest, signed_bytes
from sconto.terms import Terms
from sconto.tokens import TokenClaims, verify_token
from sconto.tokens.issue import read_claims
from sconto.tokens.verify import KeysOfIssuer

#: A token that only becomes valid later is kept all the same.
_ANY_START_S = 10**11

Use = Literal["usable", "not_yet", "expired", "redeemed", "revoked", "deleted", "moved"]


class Promise(NamedTuple):
    """What a shopper was shown: one offer in one frame."""

    hub: str
    merchant: str
    frame_id: str
    promotion_id: str
    terms_digest: str


class Held(NamedTuple):
    """A token that the wallet holds, with the terms that it names."""

    token_id: str
    merchant: str
    terms_digest: str
    terms: Terms
    clipped_at_ms: int


class Choice(NamedTuple):
    """Tokens to present with a cart, and what they take off; the merchant has the last word."""

    token_ids: tuple[str, ...]
    evaluation: Evaluation


class Saving(NamedTuple):
    """One use of a token, as its merchant reported it."""

    promotion_id: str
    terms_digest: str
    at_ms: int
    amount_minor: int
    #: The part of it that was taken back.
    reversed_minor: int
    currency: str
    #: Nothing of it is left.
    is_reversed: bool


class Saved(NamedTuple):
    """A sum of savings in one currency."""

    uses: int = 0
    amount_minor: int = 0

    def plus(self, saving: Saving) -> "Saved":
        left = saving.amount_minor - saving.reversed_minor
        return Saved(self.uses + int(not saving.is_reversed), self.amount_minor + left)


def read_frame(document: object, expected_id: str, *, hub: str) -> Manifest:
    """The manifest that a frame id names, shown by this hub.

    The signature is the hub's to check; the id alone already says that nothing in it was changed.
    Raises InvalidInputError: `frame_id_mismatch`, `audience_mismatch`, or that of its form.
    """
    if not isinstance(document, dict):
        raise InvalidInputError("the manifest is no object", code="malformed", field="manifest")
    if frame_id(signed_bytes(document)) != expected_id:
        raise InvalidInputError(
            "this is another frame than the one that was asked for",
            code="frame_id_mismatch",
            field="frame_id",
        )
    manifest = read_manifest(document)
    if manifest.aud != hub:
        raise InvalidInputError(
            f"the frame is for {manifest.aud}", code="audience_mismatch", field="manifest.aud"
        )
    return manifest


def promise_of(manifest: Manifest, frame: str, promotion_id: str) -> Promise:
    """The offer of a promotion in a frame; InvalidInputError where it has none."""
    for offer in manifest.offers:
        if offer.promotion_id == promotion_id:
            return Promise(manifest.aud, manifest.iss, frame, promotion_id, offer.terms_digest)
    raise InvalidInputError(
        "the frame does not offer this promotion",
        code="not_offered",
        field="promotion_id",
        remedy="use a promotion_id that stands in the frame's offers",
    )


def keep(
    token: str,
    promise: Promise,
    holder_jkt: str,
    keys_of_issuer: KeysOfIssuer,
    *,
    at_ms: int,
) -> TokenClaims:
    """The claims of a token that is the holder's own and says what was promised.

    Raises InvalidInputError: that of the signature, audience and dates (`verify_token`), or
    `token_not_as_promised` with the claim that differs.
    """
    claims = verify_token(
        token, keys_of_issuer, audience=promise.merchant, at_ms=at_ms, leeway_s=_ANY_START_S
    )
    said = {
        "iss": (claims.iss, promise.hub),
        "frame": (claims.frame, promise.frame_id),
        "promotion_id": (claims.promotion_id, promise.promotion_id),
        "terms_digest": (claims.terms_digest, promise.terms_digest),
        "cnf.jkt": (claims.cnf.jkt, holder_jkt),
    }
    for name, (is_there, was_promised) in said.items():
        if is_there != was_promised:
            raise InvalidInputError(
                f"the token is not as promised: {name} is {is_there}, not {was_promised}",
                code="token_not_as_promised",
                field=f"token.{name}",
            )
    return claims


def keep_moved(
    token: str, moved: TokenClaims, merchant: str, keys_of_issuer: KeysOfIssuer
) -> TokenClaims:
    """The claims of the token that takes the place of one that its holder moved to `merchant`.

    It is the same right until the same end, for no more uses. Raises InvalidInputError as `keep`.
    """
    promise = Promise(moved.iss, merchant, moved.frame, moved.promotion_id, moved.terms_digest)
    at_ms = moved.iat * MS_PER_SECOND
    claims = keep(token, promise, moved.cnf.jkt, keys_of_issuer, at_ms=at_ms)
    for name, is_there, was_promised, is_right in (
        ("exp", claims.exp, moved.exp, claims.exp == moved.exp),
        ("uses", claims.uses, moved.uses, claims.uses <= moved.uses),
    ):
        if not is_right:
            raise InvalidInputError(
                f"the token is not as promised: {name} is {is_there}, not {was_promised}",
                code="token_not_as_promised",
                field=f"token.{name}",
            )
    return claims


def claims_of(token: str) -> TokenClaims:
    """The claims of a token that was verified when it was kept."""
    payload = b64url_decode(token.split(".")[1])
    return read_claims(parse_json(payload, max_bytes=JWS_BYTES_MAX, what="token"))


def use_of(status: str, claims: TokenClaims, at_ms: int) -> Use:
    """What a kept token is good for at an instant; `status` is the store's.

    The start forgives nothing and the end is exact: a wallet that presents a token a second too
    early is told so by the merchant, which forgives a minute.
    """
    match status:
        case "redeemed" | "revoked" | "deleted" | "moved":
            return status
    if at_ms >= claims.exp * MS_PER_SECOND:
        return "expired"
    return "usable" if at_ms >= claims.nbf * MS_PER_SECOND else "not_yet"


def choose(cart: Cart, held: Iterable[Held], *, merchant: str, at_ms: int) -> Choice:
    """The tokens that are worth presenting with a cart at a merchant.

    The engine takes the set that is best for the shopper. A token that would be used up for
    nothing (`no_effect: redeem`) stays in the wallet. The merchant's own promotions are not known
    here, so its evaluation may differ; what is presented and not applied is not used up.
    """
    index = PromotionIndex()
    tokens: list[HeldToken] = []
    known: set[str] = set()
    for one in held:
        if one.merchant != merchant:
            continue
        if one.terms_digest not in known:
            index.add(one.terms, one.terms_digest, current=False)
            known.add(one.terms_digest)
        tokens.append(
            HeldToken(
                token_id=one.token_id,
                terms_digest=one.terms_digest,
                clipped_at_ms=one.clipped_at_ms,
            )
        )
    holder = Holder(proven=True, tokens=tuple(tokens))
    evaluation = evaluate(cart, index, holder, at_ms=at_ms)
    chosen = tuple(
        one.token_id
        for one in evaluation.applied
        if one.token_id is not None and (one.amount_minor > 0 or one.gifts or one.rewards)
    )
    return Choice(chosen, evaluation)


def sum_up(
    savings: Iterable[Saving], zones: Mapping[str, str]
) -> tuple[dict[tuple[str, str], Saved], dict[tuple[str, str], Saved]]:
    """Savings by (currency, month `YYYY-MM`) and by (currency, promotion id).

    A month is that of the promotion's time zone, in `zones` by terms digest, UTC where it is not
    known. The discount is net of what was taken back; a use that was taken back entirely is none.
    """
    by_month: dict[tuple[str, str], Saved] = {}
    by_promotion: dict[tuple[str, str], Saved] = {}
    for saving in savings:
        zone = zones.get(saving.terms_digest, "UTC")
        month = (saving.currency, day_of(saving.at_ms, zone).isoformat()[:7])
        by_month[month] = by_month.get(month, Saved()).plus(saving)
        promotion = (saving.currency, saving.promotion_id)
        by_promotion[promotion] = by_promotion.get(promotion, Saved()).plus(saving)
    return by_month, by_promotion
