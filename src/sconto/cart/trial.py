"""Trying promotions out before they are in force: beside those that are, for whoever holds all.

For previews, dry runs and tests of drafts, at whatever instant. Nothing here is part of a checkout.
"""

from collections.abc import Iterable

import msgspec

from sconto.cart.basket import Basket
from sconto.cart.index import Promotions, Source
from sconto.cart.model import STRANGER, Cart, HeldCode, HeldToken, Holder
from sconto.cart.promotion import Compiled, Promotion
from sconto.terms.codes import normalise_code
from sconto.terms.model import Code, TokenAccess, UniqueCodes


class Beside(Source):
    """A source with drafts on top: each stands in place of the version that is in force.

    Tokens and unique codes of other versions keep what they were promised.
    """

    def __init__(self, source: Source, drafts: Iterable[Promotion]) -> None:
        drafts = list(drafts)
        self.lanes = source.lanes
        self._source = source
        self._drafts = Promotions(drafts, lanes=source.lanes)
        self._replaced = {one.terms.promotion_id for one in drafts}

    def by_digest(self, digest: str) -> Compiled | None:
        return self._drafts.by_digest(digest) or self._source.by_digest(digest)

    def by_code(self, code: str) -> list[Compiled]:
        return self._rest(self._source.by_code(code)) + self._drafts.by_code(code)

    def candidates(self, basket: Basket) -> list[Compiled]:
        return self._rest(self._source.candidates(basket)) + self._drafts.candidates(basket)

    def _rest(self, found: list[Compiled]) -> list[Compiled]:
        return [one for one in found if one.promotion_id not in self._replaced]


def holder_of_all(
    promotions: Iterable[Promotion], cart: Cart, *, at_ms: int, holder: Holder = STRANGER
) -> Holder:
    """A proven holder with a token, clipped just now, of each promotion that asks for one.

    Codes in the cart that are public codes of none of them are unique codes of those that have
    such: the first code is of the first promotion by id, and so on; more are of the last.

    >>> from sconto.cart.worked import cart_of, promotion_of
    >>> off = {"type": "amount_off", "amount_minor": 100}
    >>> some = [promotion_of("a", benefit=off, access={"type": "token"}),
    ...         promotion_of("b", benefit=off, access={"type": "unique_codes"})]
    >>> held = holder_of_all(some, cart_of("milk 120", codes=["X1"]), at_ms=0)
    >>> [one.token_id for one in held.tokens], [one.code for one in held.codes]
    (['token of a'], ['X1'])
    """
    listed = sorted(promotions, key=lambda one: one.terms.promotion_id)
    public = {
        normalise_code(x.terms.access.code) for x in listed if isinstance(x.terms.access, Code)
    }
    tokens = [
        HeldToken(
            token_id=f"token of {one.terms.promotion_id}",
            terms_digest=one.digest,
            clipped_at_ms=at_ms,
        )
        for one in listed
        if isinstance(one.terms.access, TokenAccess)
    ]
    unique = [one.digest for one in listed if isinstance(one.terms.access, UniqueCodes)]
    known = {normalise_code(one.code) for one in holder.codes} | public
    typed = [code for code in cart.codes if normalise_code(code) not in known]
    codes = [
        HeldCode(code=code, terms_digest=unique[min(i, len(unique) - 1)])
        for i, code in enumerate(typed)
        if unique
    ]
    return msgspec.structs.replace(
        holder,
        proven=True,
        tokens=(*holder.tokens, *tokens),
        codes=(*holder.codes, *codes),
    )
