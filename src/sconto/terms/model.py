"""The terms of a promotion: one immutable, canonical document per version, named by its digest.

In: JSON from a promoter. Out: `Terms`. It checks form and inner consistency, not sense: `lint`
does that. Who signed it is checked where it arrives.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from sconto.base.canonical import canonical, digest
from sconto.base.documents import (
    Document,
    decode,
    from_builtins,
    has_long_number,
    to_builtins,
)
from sconto.base.errors import InvalidInputError
from sconto.base.money import AMOUNT_MINOR_MAX, BASIS_POINTS
from sconto.terms.benefits import Benefit
from sconto.terms.codes import normalise_code
from sconto.terms.conditions import Condition
from sconto.terms.schedule import Schedule
from sconto.terms.selectors import Minor, Name, Names

#: A selector of 10,000 SKUs has room in it.
TERMS_BYTES_MAX = 2**20
_ENCODER = msgspec.json.Encoder(order="sorted")

Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
Party = Annotated[str, Meta(min_length=1, max_length=512)]


class Text(Document):
    """What a shopper reads, in one language."""

    title: Annotated[str, Meta(min_length=1, max_length=200)]
    description: Annotated[str, Meta(max_length=4000)] = ""


class Share(Document):
    """A party and its part of what the promotion costs."""

    party: Party
    basis_points: Annotated[int, Meta(ge=0, le=BASIS_POINTS)]


class Funding(Document):
    """Who pays: shares that sum to 10,000 basis points; none given: whoever signed the terms."""

    shares: tuple[Share, ...] = ()
    #: What the merchant gets for each redemption on top.
    handling_fee_minor: Minor = 0

    def __post_init__(self) -> None:
        if self.shares and sum(share.basis_points for share in self.shares) != BASIS_POINTS:
            raise ValueError("the shares must sum to 10000 basis points")
        if len({share.party for share in self.shares}) != len(self.shares):
            raise ValueError("a party stands twice")


class Automatic(Document, tag="automatic", tag_field="type"):
    """For every cart that meets the conditions."""


class Code(Document, tag="code", tag_field="type"):
    """For whoever names this public code; see `sconto.terms.codes` on how codes compare."""

    code: Annotated[str, Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        if not normalise_code(self.code):
            raise ValueError("`code` has nothing that is compared, only spaces and hyphens")


class UniqueCodes(Document, tag="unique_codes", tag_field="type"):
    """For whoever names one of many secret codes, each of which counts as one token."""


class TokenAccess(Document, tag="token", tag_field="type"):
    """For the holder of a token that names these terms."""


Access = Automatic | Code | UniqueCodes | TokenAccess


class Combination(Document):
    """How the promotion goes together with others."""

    #: None: `shipping` where all benefits are about shipping; `order` where all others take from
    #: every item; else `item`. A lane that the merchant does not have counts as none given.
    lane: Name | None = None
    #: Lower comes first; ties by promotion id.
    priority: Annotated[int, Meta(ge=1, le=10_000)] = 100
    #: Of those in its lane that compete, one at most is taken.
    mode: Literal["stack", "compete"] = "stack"
    #: Never together with any other promotion: it alone, or all others without it.
    exclusive: bool = False
    tags: Names = frozenset()
    #: Only with promotions that have one of these tags, where they in turn allow ours; None: all.
    combines_with: Names | None = None
    #: Whether the benefit is computed on the first prices or on what is left of them.
    basis: Literal["initial", "reduced"] = "reduced"
    #: How many of its tokens or codes may apply in one cart, and to one line.
    max_per_cart: Annotated[int, Meta(ge=1, le=1000)] | None = None
    max_per_item: Annotated[int, Meta(ge=1, le=1000)] | None = None


class Limit(Document):
    """At most so many uses, or so much money, for each combination of `per` in each period.

    Periods are calendar periods in the promotion's time zone; weeks start on Monday.
    """

    per: Annotated[
        frozenset[
            Literal["promotion", "code", "shopper", "merchant", "store", "token", "attribute"]
        ],
        Meta(min_length=1),
    ] = frozenset({"promotion"})
    #: Name of the custom attribute of the cart, with `attribute` in `per`.
    attribute: Name | None = None
    uses: Annotated[int, Meta(ge=1, le=10**12)] | None = None
    amount_minor: Annotated[int, Meta(ge=1, le=AMOUNT_MINOR_MAX)] | None = None
    period: Literal["ever", "day", "week", "month", "year"] = "ever"

    def __post_init__(self) -> None:
        if (self.uses is None) == (self.amount_minor is None):
            raise ValueError("a limit is `uses` or `amount_minor`, one of them")
        if ("attribute" in self.per) != (self.attribute is not None):
            raise ValueError("`attribute` names the attribute that stands in `per`")


class Terms(Document):
    """What a promotion promises. A changed promise is a new version; a topped-up budget is not."""

    promotion_id: Name
    title: Annotated[str, Meta(min_length=1, max_length=200)]
    currency: Currency
    benefits: Annotated[tuple[Benefit, ...], Meta(min_length=1, max_length=16)]
    version: Annotated[int, Meta(ge=1, le=10**9)] = 1
    #: By BCP 47 language tag.
    texts: dict[Annotated[str, Meta(min_length=2, max_length=35)], Text] = field(
        default_factory=dict
    )
    funding: Funding = Funding()
    schedule: Schedule = Schedule()
    access: Access = Automatic()
    #: All of them must hold.
    conditions: tuple[Condition, ...] = ()
    combination: Combination = Combination()
    limits: tuple[Limit, ...] = ()
    #: Tokens issued at most.
    circulation: Annotated[int, Meta(ge=1, le=10**12)] | None = None
    #: What a partial return gives back; see `sconto.cart.returns`.
    on_return: Literal["prorate", "reevaluate", "keep"] = "prorate"
    #: What happens where it would take nothing off: it is refused, or it is used up all the same.
    no_effect: Literal["refuse", "redeem"] = "refuse"
    #: Share of shoppers who get a token that gives nothing, to measure the effect.
    holdout_basis_points: Annotated[int, Meta(ge=0, le=BASIS_POINTS)] = 0
    #: Whether amounts are of prices as the cart states them, or with or without tax.
    amounts: Literal["as_priced", "tax_included", "tax_excluded"] = "as_priced"
    #: Names in other systems, such as a GS1 `gcn`.
    external_ids: dict[Name, Annotated[str, Meta(max_length=200)]] = field(default_factory=dict)

    def budget(self) -> tuple[int | None, int | None]:
        """The limits of the promotion as a whole for ever: (uses, minor units); None: unlimited.

        >>> Terms(promotion_id="p", title="t", currency="USD", benefits=(),
        ...       limits=(Limit(uses=10), Limit(amount_minor=500), Limit(uses=7))).budget()
        (7, 500)
        """
        whole = [i for i in self.limits if i.per == {"promotion"} and i.period == "ever"]
        uses = min((i.uses for i in whole if i.uses is not None), default=None)
        minor = min((i.amount_minor for i in whole if i.amount_minor is not None), default=None)
        return uses, minor

    def text(self, language: str) -> Text:
        """Title and description in a language, else in its main language, else the title alone."""
        short = language.partition("-")[0]
        return self.texts.get(language) or self.texts.get(short) or Text(title=self.title)


def decode_terms(body: bytes, *, what: str = "terms") -> Terms:
    """Strictly decoded terms; InvalidInputError names the field and suggests the right name."""
    return decode(body, Terms, max_bytes=TERMS_BYTES_MAX, what=what)


def terms_from(value: object, *, what: str = "terms", field: str = "") -> Terms:
    """Terms in a JSON value that was parsed strictly, such as a part of a request."""
    return from_builtins(value, Terms, what=what, field=field)


def encode_terms(terms: Terms) -> bytes:
    """RFC 8785 bytes: defaults are left out, values of sets are sorted by code point."""
    body = _encode_quickly(terms) or canonical(to_builtins(terms))
    if len(body) > TERMS_BYTES_MAX:
        raise InvalidInputError(
            f"terms are larger than {TERMS_BYTES_MAX} bytes",
            code="too_large",
            limit_bytes=TERMS_BYTES_MAX,
        )
    return body


def _encode_quickly(terms: Terms) -> bytes | None:
    """RFC 8785 bytes in a fifth of the time; None where not all is ASCII, or a number is long."""
    try:
        body = _ENCODER.encode(terms)
    except UnicodeEncodeError:  # a lone surrogate, which has no canonical form
        return None
    return body if body.isascii() and not has_long_number(body) else None


def terms_digest(terms: Terms) -> str:
    """The name of this version: SHA-256 of `encode_terms`, in the notation of RFC 9530."""
    return digest(encode_terms(terms))
