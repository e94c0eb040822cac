"""Returns: what a shopper gets back for units brought back, and what each promotion is credited.

Runs after a sale, any number of times, until nothing is kept. `Kept` is what remains of the sale;
store it with the sale and hand it to the next return. Each promotion's terms say what happens:

- `prorate`: a unit takes its part of the discount with it; what is kept keeps the rest, even where
  the promotion would no longer apply;
- `reevaluate`: what is kept is priced anew as if it had been bought alone, at the instant of the
  sale; a discount that the kept goods no longer earn is taken off the refund, never below zero;
- `keep`: the shopper gets what `prorate` gives, and the promotion stays redeemed as it was until
  everything that it touched is back.

What holds at every step: refunds so far + price of what is kept = what was paid; the parts credited
to a promotion and to its funders sum to what it gave once everything is back. With the last unit
the price of shipping is given back too.
"""

from collections.abc import Mapping, Sequence

from sconto.base.documents import Document
from sconto.base.errors import InvalidInputError, invariant
from sconto.base.money import split
from sconto.cart.evaluate import evaluate
from sconto.cart.evaluation import Applied, Evaluation
from sconto.cart.index import Promotions
from sconto.cart.lanes import DEFAULT_LANES, Lane
from sconto.cart.model import Cart, Holder, Line
from sconto.cart.promotion import Promotion
from sconto.terms.model import Terms

#: Name under which the discount of shipping stands beside those of lines; no line has it.
SHIPPING = ""


class KeptDiscount(Document):
    """What is left of one applied promotion, in the order of the evaluation."""

    #: By line id: what the kept units cost less.
    lines: dict[str, int]
    #: What the promotion has given net, as it is counted and cleared.
    redeemed_minor: int
    #: By party, in the order of the evaluation; empty if it names none.
    funding: tuple[int, ...] = ()
    #: Whether its use is still counted.
    is_redeemed: bool = True


class Kept(Document):
    """What remains of a sale."""

    #: By line id; lines that are wholly back stay in it with 0.
    quantities: dict[str, int]
    discounts: tuple[KeptDiscount, ...]
    refunded_minor: int = 0


class Reversal(Document):
    """What is credited to one promotion by one return; nothing: it is not in the list."""

    #: Its place in `evaluation.applied`.
    applied: int
    promotion_id: str
    amount_minor: int
    token_id: str | None = None
    #: By party, in the order of the evaluation.
    funding: tuple[tuple[str, int], ...] = ()
    #: Whether the use itself is given back.
    is_whole: bool = False


class Return(Document):
    """What one return gives back, and what remains."""

    refund_minor: int
    reversals: tuple[Reversal, ...]
    kept: Kept


def keep_all(cart: Cart, evaluation: Evaluation) -> Kept:
    """The start: everything is kept."""
    return Kept(
        quantities={line.id: line.quantity for line in sorted(cart.lines, key=lambda x: x.id)},
        discounts=tuple(
            KeptDiscount(
                lines={part.line_id or SHIPPING: part.amount_minor for part in one.allocations},
                redeemed_minor=one.amount_minor,
                funding=tuple(part.amount_minor for part in one.funding),
            )
            for one in evaluation.applied
        ),
    )


def bring_back(
    cart: Cart,
    evaluation: Evaluation,
    kept: Kept,
    returned: Mapping[str, int],
    terms: Mapping[str, Terms],
    *,
    holder: Holder,
    at_ms: int,
    lanes: Sequence[Lane] = DEFAULT_LANES,
) -> Return:
    """Bring back units by line id; `terms` by digest are those that applied, `at_ms` the sale's.

    Raises InvalidInputError for a line that is not in the sale or units that are not kept.
    """
    quantities = _quantities(kept, returned)
    lines = {line.id: line for line in cart.lines}
    policies = [terms[one.terms_digest].on_return for one in evaluation.applied]
    before = _paid(cart, kept.quantities, [one.lines for one in kept.discounts])
    discounts = _prorated(lines, kept, quantities)
    still = [True] * len(discounts)
    if not any(quantities.values()):
        discounts = [dict.fromkeys(one, 0) for one in discounts]
    elif "reevaluate" in policies:
        now = _evaluated_again(cart, evaluation, kept, quantities, terms, holder, at_ms, lanes)
        again = [
            now.get(_key(one)) if policy == "reevaluate" else None
            for one, policy in zip(evaluation.applied, policies, strict=True)
        ]
        still = [p != "reevaluate" or a is not None for p, a in zip(policies, again, strict=True)]
        anew = _anew(cart, kept, quantities, discounts, policies, again)
        excess = _paid(cart, quantities, anew) - before
        discounts = anew if excess <= 0 else _at_zero(cart, quantities, discounts, policies, before)
    refund = before - _paid(cart, quantities, discounts)
    invariant(refund >= 0, "a return never costs the shopper anything")
    reversals, left = _credit(evaluation, kept, quantities, discounts, policies, still)
    result = Kept(
        quantities=quantities, discounts=left, refunded_minor=kept.refunded_minor + refund
    )
    return Return(refund_minor=refund, reversals=reversals, kept=result)


def kept_price(line: Line, units: int) -> int:
    """Price of so many units of a line before discounts; all of them cost exactly the line."""
    if line.price_minor is not None:
        return line.price_minor * units
    return (2 * line.initial_minor * units + line.quantity) // (2 * line.quantity)


def _quantities(kept: Kept, returned: Mapping[str, int]) -> dict[str, int]:
    quantities = dict(kept.quantities)
    for line_id, units in returned.items():
        if line_id not in quantities:
            raise InvalidInputError(
                f"the sale has no line {line_id!r}", field=f"lines.{line_id}", code="line_unknown"
            )
        if not 1 <= units <= quantities[line_id]:
            raise InvalidInputError(
                f"of line {line_id!r} {quantities[line_id]} units are left to return",
                field=f"lines.{line_id}",
                code="units_not_kept",
                had=quantities[line_id],
            )
        quantities[line_id] -= units
    return quantities


def _prorated(
    lines: Mapping[str, Line], kept: Kept, quantities: Mapping[str, int]
) -> list[dict[str, int]]:
    """Each line's discounts shrink with its units, rounded half-up once for the line.

    What is released is shared by the promotions by what they still give there.
    """
    result = [dict(one.lines) for one in kept.discounts]
    for line_id, units in quantities.items():
        had = kept.quantities[line_id]
        givers = [one for one in result if line_id in one]
        now = sum(one[line_id] for one in givers)
        if units == had or not now:
            continue
        # What is kept never costs less than nothing, nor more than it did.
        price = kept_price(lines[line_id], units)
        least = now - kept_price(lines[line_id], had) + price
        rest = max(0, least, min((2 * now * units + had) // (2 * had), price))
        parts = split(now - rest, [one[line_id] for one in givers])
        for one, part in zip(givers, parts, strict=True):
            one[line_id] -= part
    return result


def _paid(cart: Cart, quantities: Mapping[str, int], discounts: Sequence[Mapping[str, int]]) -> int:
    """What the kept units and their shipping cost; nothing kept costs nothing."""
    if not any(quantities.values()):
        return 0
    shipping = cart.shipping.amount_minor if cart.shipping else 0
    gross = sum(kept_price(line, quantities[line.id]) for line in cart.lines)
    return gross + shipping - sum(sum(one.values()) for one in discounts)


def _key(one: Applied) -> tuple[str, str | None, str | None]:
    return (one.terms_digest, one.token_id, one.code)


def _evaluated_again(
    cart: Cart,
    evaluation: Evaluation,
    kept: Kept,
    quantities: Mapping[str, int],
    terms: Mapping[str, Terms],
    holder: Holder,
    at_ms: int,
    lanes: Sequence[Lane],
) -> dict[tuple[str, str | None, str | None], dict[str, int]]:
    """What the same promotions would have given to what is kept."""
    fields = {name: getattr(cart, name) for name in cart.__struct_fields__}
    fields["lines"] = tuple(
        _kept_line(line, quantities[line.id]) for line in cart.lines if quantities[line.id]
    )
    redeemed = [
        one
        for one, left in zip(evaluation.applied, kept.discounts, strict=True)
        if left.is_redeemed
    ]
    digests = {one.terms_digest for one in redeemed}
    tokens = {one.token_id for one in redeemed}
    holder = Holder(
        client=holder.client,
        proven=holder.proven,
        tokens=tuple(token for token in holder.tokens if token.token_id in tokens),
        codes=holder.codes,
        segments=holder.segments,
        order_number=holder.order_number,
        attributes=holder.attributes,
    )
    promotions = Promotions(
        [Promotion(terms[digest], digest) for digest in sorted(digests)], lanes=lanes
    )
    found = evaluate(Cart(**fields), promotions, holder, at_ms=at_ms)
    return {
        _key(one): {part.line_id or SHIPPING: part.amount_minor for part in one.allocations}
        for one in found.applied
    }


def _kept_line(line: Line, units: int) -> Line:
    fields = {name: getattr(line, name) for name in line.__struct_fields__}
    fields["quantity"] = units
    if line.amount_minor is not None:
        fields["amount_minor"] = kept_price(line, units)
    return Line(**fields)


def _anew(
    cart: Cart,
    kept: Kept,
    quantities: Mapping[str, int],
    prorated: list[dict[str, int]],
    policies: Sequence[str],
    again: Sequence[Mapping[str, int] | None],
) -> list[dict[str, int]]:
    """What is given anew in the place of what was given: no more of it than was redeemed, and
    within the price of what is kept."""
    result = [
        {} if policy == "reevaluate" else dict(one)
        for one, policy in zip(prorated, policies, strict=True)
    ]
    room = {line.id: kept_price(line, quantities[line.id]) for line in cart.lines}
    room[SHIPPING] = cart.shipping.amount_minor if cart.shipping else 0
    for one in result:
        for place, amount in one.items():
            room[place] -= amount
    for number, policy in enumerate(policies):
        if policy != "reevaluate":
            continue
        found = again[number] or {}
        places = sorted({*prorated[number], *found})
        wanted = [found.get(place, 0) for place in places]
        if sum(wanted) > kept.discounts[number].redeemed_minor:
            wanted = split(kept.discounts[number].redeemed_minor, wanted)
        for place, amount in zip(places, wanted, strict=True):
            result[number][place] = min(amount, room[place])
            room[place] -= result[number][place]
    return result


def _at_zero(
    cart: Cart,
    quantities: Mapping[str, int],
    prorated: list[dict[str, int]],
    policies: Sequence[str],
    paid_minor: int,
) -> list[dict[str, int]]:
    """The goods kept would cost more than was paid: leave as much discount as makes them equal."""
    result = [dict(one) for one in prorated]
    places = [
        (number, place)
        for number, one in enumerate(result)
        if policies[number] == "reevaluate"
        for place in sorted(one)
    ]
    lost = paid_minor - _paid(cart, quantities, result)
    for (number, place), part in zip(
        places, split(lost, [result[n][i] for n, i in places]), strict=True
    ):
        result[number][place] -= part
    return result


def _credit(
    evaluation: Evaluation,
    kept: Kept,
    quantities: Mapping[str, int],
    discounts: list[dict[str, int]],
    policies: Sequence[str],
    still: Sequence[bool],
) -> tuple[tuple[Reversal, ...], tuple[KeptDiscount, ...]]:
    """What each promotion gets back, and each of its funders."""
    reversals, left = [], []
    for number, (one, old) in enumerate(zip(evaluation.applied, kept.discounts, strict=True)):
        lines = discounts[number]
        touched = [i for i in lines if i != SHIPPING] or list(quantities)
        all_back = not any(quantities[i] for i in touched) and not any(lines.values())
        stays = policies[number] == "keep" and not all_back
        amount = old.redeemed_minor if stays else sum(lines.values())
        is_redeemed = old.is_redeemed and (amount > 0 or (still[number] and not all_back))
        change = old.redeemed_minor - amount
        invariant(change >= 0, "a return never makes a promotion give more")
        parts = split(change, old.funding) if old.funding else []
        funding = tuple(had - part for had, part in zip(old.funding, parts, strict=True))
        left.append(
            KeptDiscount(
                lines=lines, redeemed_minor=amount, funding=funding, is_redeemed=is_redeemed
            )
        )
        if change or is_redeemed != old.is_redeemed:
            names = [part.party for part in one.funding]
            reversals.append(
                Reversal(
                    applied=number,
                    promotion_id=one.promotion_id,
                    amount_minor=change,
                    token_id=one.token_id,
                    funding=tuple(zip(names, parts, strict=True)),
                    is_whole=old.is_redeemed and not is_redeemed,
                )
            )
    return tuple(reversals), tuple(left)
