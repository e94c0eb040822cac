"""Redemption: an evaluation and what is left of the allotments become a decision.

In: cart, promotions, holder, instant, and the parts of budgets that this merchant may spend alone.
Out: a `Decision`: what applies, from which allotment each discount is taken, and what was refused
for want of it. Never: a database, a clock. `servers/merchant` stores what is decided here.

1. The engine says what applies (`sconto.cart`); it knows no stock.
2. What applies must be covered: one use and its whole amount from one open allotment, and from one
   of each limit that merchants share. A promotion that is not covered is taken out and the cart is
   evaluated again, so that another may take its place and no cent is promised that cannot be given.
   Of several tokens or unique codes of one promotion only those that are not covered are taken out.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from sconto.base.canonical import b64url, digest
from sconto.cart import Applied, Cart, Evaluation, Holder, ReasonCode, Refusal, evaluate
from sconto.cart.index import Source, Without
from sconto.ledger import UNLIMITED, Amounts, Entry
from sconto.ledger.journal import Kind
from sconto.terms.counting import Counter

RECEIPT_TYPE = "promo-receipt+jwt"


class Part(Protocol):
    """An open allotment, as far as a decision needs it."""

    @property
    def allotment_id(self) -> str: ...
    @property
    def left(self) -> Amounts: ...


class Spend(NamedTuple):
    """One applied promotion and the allotment that it is taken from."""

    redemption_id: str
    applied: Applied
    allotment_id: str
    amounts: Amounts
    #: What it is counted in at this merchant, beside the allotment.
    counters: tuple[Counter, ...] = ()
    #: The allotments of limits that merchants share, from which it is taken too: counter and id.
    shared: tuple[tuple[Counter, str], ...] = ()


class Headroom(NamedTuple):
    """A counter of a limit, and what is counted in it already."""

    counter: Counter
    used: Amounts = Amounts(0, 0)
    #: Of a limit that merchants share: the open allotments of it, which say all that is left.
    parts: Sequence[Part] = ()

    def left(self, taken: Amounts) -> Amounts:
        """What there is room for after `taken` more; without a limit, `UNLIMITED`."""
        most = (self.counter.uses, self.counter.minor)
        parts = zip(most, self.used, taken, strict=True)
        return Amounts(*(UNLIMITED if m is None else m - used - more for m, used, more in parts))


class Uncovered(NamedTuple):
    """A promotion that would apply, and is not covered by what this merchant has left of it.

    Or a limit has no room for it; or the limit is by shopper, and nobody knows who that is.
    """

    applied: Applied
    needed: Amounts
    had: Amounts
    code: ReasonCode = ReasonCode.ALLOTMENT_EXHAUSTED
    #: What allotments are lacking of: names of shared counters; "": of the promotion itself.
    lacking: tuple[str, ...] = ()

    @property
    def refusal(self) -> Refusal:
        """What the shopper is told, in the dimension that lacks."""
        if self.code == ReasonCode.SHOPPER_UNKNOWN:
            return Refusal(
                self.applied.promotion_id,
                self.code,
                terms_digest=self.applied.terms_digest,
                presented_code=self.applied.code,
            )
        is_money = self.needed.uses <= self.had.uses
        needed, had = (
            (self.needed.minor, self.had.minor) if is_money else (self.needed.uses, self.had.uses)
        )
        return Refusal(
            self.applied.promotion_id,
            self.code,
            terms_digest=self.applied.terms_digest,
            token_id=self.applied.token_id,
            presented_code=self.applied.code,
            needed=needed,
            had=had,
            missing=needed - had,
            unit="minor" if is_money else "uses",
        )


class Decision(NamedTuple):
    """What a checkout does if it goes ahead; nothing has been spent yet."""

    evaluation: Evaluation
    spends: tuple[Spend, ...]
    uncovered: tuple[Uncovered, ...]


Available = Callable[[Collection[str]], Mapping[str, Sequence[Part]]]
#: The counters of limits that an applied promotion is counted in; None: by an unknown shopper.
HeadroomOf = Callable[[Applied], Sequence[Headroom] | None]


def no_limits(applied: Applied) -> Sequence[Headroom]:
    """Nothing is limited but by allotments."""
    return ()


def decide(
    cart: Cart,
    promotions: Source,
    holder: Holder,
    at_ms: int,
    *,
    merchant: str,
    order_id: str,
    available: Available,
    headroom_of: HeadroomOf = no_limits,
) -> Decision:
    """Evaluate a cart and cover what applies.

    `available(promotion_ids)` gives the open allotments of this merchant, oldest first;
    `headroom_of(applied)` the counters of limits, as they are before this cart.
    """
    uncovered: list[Uncovered] = []
    excluded: set[str] = set()
    lacking: set[tuple[str | None, str | None]] = set()
    unique = {one.code for one in holder.codes}
    parts: dict[str, Sequence[Part]] = {}
    while True:
        view: Source = Without(promotions, excluded) if excluded else promotions
        evaluation = evaluate(cart, view, _without(holder, lacking), at_ms=at_ms)
        unknown = {a.promotion_id for a in evaluation.applied} - parts.keys()
        if unknown:
            parts.update(dict.fromkeys(unknown, ()) | dict(available(unknown)))
        spends, missing = _cover(evaluation.applied, parts, merchant, order_id, headroom_of)
        if not missing:
            evaluation = _with_refusals(evaluation, uncovered)
            return Decision(evaluation, tuple(spends), tuple(uncovered))
        uncovered += missing
        covered = {one.applied.promotion_id for one in spends}
        for one in missing:
            token_id, code = one.applied.token_id, one.applied.code
            is_one_of_many = token_id is not None or code in unique
            if is_one_of_many and one.applied.promotion_id in covered:
                lacking.add((token_id, code))
            else:
                excluded.add(one.applied.promotion_id)


def _without(holder: Holder, lacking: Collection[tuple[str | None, str | None]]) -> Holder:
    """The holder without some tokens and unique codes: those that a ledger cannot cover too."""
    if not lacking:
        return holder
    return msgspec.structs.replace(
        holder,
        tokens=tuple(one for one in holder.tokens if (one.token_id, None) not in lacking),
        codes=tuple(one for one in holder.codes if (None, one.code) not in lacking),
    )


def _with_refusals(evaluation: Evaluation, uncovered: Sequence[Uncovered]) -> Evaluation:
    """The evaluation with the true reason of what was taken out of it."""
    if not uncovered:
        return evaluation
    tokens = {one.applied.token_id for one in uncovered} - {None}
    codes = {one.applied.code for one in uncovered} - {None}
    kept = [
        refusal
        for refusal in evaluation.refused
        if refusal.token_id not in tokens and refusal.presented_code not in codes
    ]
    refused = (*kept, *(one.refusal for one in uncovered))
    return msgspec.structs.replace(evaluation, refused=refused)


def _cover(
    applied: Iterable[Applied],
    parts: Mapping[str, Sequence[Part]],
    merchant: str,
    order_id: str,
    headroom_of: HeadroomOf,
) -> tuple[list[Spend], list[Uncovered]]:
    left: dict[str, Amounts] = {}
    spends: list[Spend] = []
    missing: list[Uncovered] = []
    taken: dict[tuple[str, str], Amounts] = {}
    for one in applied:
        needed = Amounts(1, one.amount_minor)
        rooms = headroom_of(one)
        full = _full(one, rooms, needed, taken)
        if rooms is None or full is not None:
            missing.append(full or Uncovered(one, needed, needed, ReasonCode.SHOPPER_UNKNOWN))
            continue
        shared = [room for room in rooms if room.counter.is_shared]
        held = {"": parts[one.promotion_id], **{r.counter.name: r.parts for r in shared}}
        found = {name: _fitting(some, needed, left) for name, some in held.items()}
        lacking = tuple(name for name, part in found.items() if part is None)
        if lacking:
            had = max((left[p.allotment_id] for p in held[lacking[0]]), default=Amounts(0, 0))
            missing.append(Uncovered(one, needed, had, lacking=lacking))
            continue
        ids = {name: part.allotment_id for name, part in found.items() if part is not None}
        for allotment_id in ids.values():
            left[allotment_id] = _less(left[allotment_id], needed)
        counters = tuple(room.counter for room in rooms if not room.counter.is_shared)
        spends.append(
            Spend(
                redemption_id(merchant, order_id, one),
                one,
                ids[""],
                needed,
                counters,
                tuple((room.counter, ids[room.counter.name]) for room in shared),
            )
        )
        for counter in counters:
            key = (one.promotion_id, counter.name)
            before = taken.get(key, Amounts(0, 0))
            taken[key] = Amounts(before.uses + 1, before.minor + one.amount_minor)
    return spends, missing


def _fitting(parts: Sequence[Part], needed: Amounts, left: dict[str, Amounts]) -> Part | None:
    """The first part that has enough left after what this cart has taken; notes what it has."""
    for part in parts:
        left.setdefault(part.allotment_id, part.left)
    return next((part for part in parts if needed.fits(left[part.allotment_id])), None)


def _less(one: Amounts, taken: Amounts) -> Amounts:
    return Amounts(one.uses - taken.uses, one.minor - taken.minor)


def _full(
    applied: Applied,
    rooms: Sequence[Headroom] | None,
    needed: Amounts,
    taken: Mapping[tuple[str, str], Amounts],
) -> Uncovered | None:
    """The first limit that has no room for a redemption, after those before it in the cart."""
    for room in rooms or ():
        if room.counter.is_shared:
            continue
        left = room.left(taken.get((applied.promotion_id, room.counter.name), Amounts(0, 0)))
        if not needed.fits(left):
            return Uncovered(applied, needed, left, ReasonCode.LIMIT_REACHED)
    return None


def redemption_id(merchant: str, order_id: str, applied: Applied) -> str:
    """The permanent id of one use of one promotion in one order; the same for everybody."""
    parts = (merchant, order_id, applied.promotion_id, applied.token_id or applied.code or "")
    # Texts are always written as `canonical` does.
    return b64url(hashlib.sha256(msgspec.json.encode(parts)).digest()[:18])


def entry_of(
    kind: Kind,
    spend: Spend,
    *,
    merchant: str,
    order_id: str,
    currency: str,
    at_ms: int,
    day: str,
    is_direct: bool = False,
) -> Entry:
    """The journal entry of a reservation or redemption."""
    return Entry(
        kind=kind,
        promotion_id=spend.applied.promotion_id,
        merchant=merchant,
        at_ms=at_ms,
        day=day,
        terms_digest=spend.applied.terms_digest,
        token_id=spend.applied.token_id or "",
        order_id=order_id,
        redemption_id=spend.redemption_id,
        allotment_id=spend.allotment_id,
        amount_minor=spend.amounts.minor,
        currency=currency,
        is_direct=is_direct,
    )


class Redeemed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One promotion in a receipt."""

    amount_minor: int
    promotion_id: str
    redemption_id: str
    terms_digest: str
    token_id: str | None = None


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What the merchant signs: which promotion was used, from which token, for how much.

    The basket is named by its digest, so that a receipt tells nobody what was bought. The fields
    stand in the order of RFC 8785.
    """

    cart: str
    currency: str
    discount_minor: int
    #: Seconds since 1970.
    iat: int
    iss: str
    order_id: str
    redemptions: tuple[Redeemed, ...]
    subtotal_minor: int


def receipt_of(
    *,
    merchant: str,
    order_id: str,
    cart: Cart,
    cart_bytes: bytes,
    decision: Decision,
    at_ms: int,
) -> Receipt:
    """The receipt of a decision about a cart; `cart_bytes` is the cart's canonical form."""
    return Receipt(
        digest(cart_bytes),
        cart.currency,
        decision.evaluation.discount_minor,
        at_ms // 1000,
        merchant,
        order_id,
        tuple(
            [
                Redeemed(
                    spend.amounts.minor,
                    spend.applied.promotion_id,
                    spend.redemption_id,
                    spend.applied.terms_digest,
                    spend.applied.token_id or None,
                )
                for spend in decision.spends
            ]
        ),
        decision.evaluation.totals.subtotal_minor,
    )


def encode_receipt(receipt: Receipt) -> bytes:
    """What `canonical` gives for it (the tests compare), without looking whether it may."""
    return msgspec.json.encode(receipt)
