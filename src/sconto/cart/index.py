"""Stage 1, index: which promotions could possibly match a cart.

From a promotion's conditions and benefits we extract *terms of which at least one must be present*
in any cart that it could match: of things that must all hold the rarest suffices, of alternatives
all are needed, and a threshold goes to a sorted list. What gives no such term is always a
candidate. A cart looks up only its own terms. The index may return too much, never too little:
`Promotions`, which returns everything, is its twin and the oracle of its tests.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from sconto.base.errors import InvalidInputError
from sconto.cart.basket import Basket
from sconto.cart.lanes import DEFAULT_LANES, Lane
from sconto.cart.needs import KINDS, Needs, needs_of
from sconto.cart.promotion import Compiled, Promotion
from sconto.terms.codes import normalise_code
from sconto.terms.model import Automatic, Code, Terms


class Source:
    """Where evaluation gets its promotions from."""

    lanes: tuple[Lane, ...]

    def by_digest(self, digest: str) -> Compiled | None:
        """What a token names, current or not."""
        raise NotImplementedError

    def by_code(self, code: str) -> list[Compiled]:
        """The current promotions of a public code, given in its normal form."""
        raise NotImplementedError

    def candidates(self, basket: Basket) -> list[Compiled]:
        """Every automatic promotion that could match, in no particular order."""
        raise NotImplementedError


#: So many promotions whose threshold is just out of reach are candidates too, for the hint of what
#: is missing.
NEAR_MAX = 3


class Entry:
    """A promotion in the index, compiled when it is first a candidate."""

    __slots__ = ("current", "digest", "made", "needs", "promotion_id", "terms", "threshold")

    def __init__(self, terms: Terms, digest: str, current: bool) -> None:
        self.terms, self.digest, self.current = terms, digest, current
        self.promotion_id = terms.promotion_id
        self.needs: Needs | None = None
        self.threshold = 0
        #: Its compiled form, once it was needed.
        self.made: Compiled | None = None

    @property
    def answers(self) -> bool:
        """Whether, as the current version, it answers carts or codes without a token."""
        return isinstance(self.terms.access, Automatic | Code)

    def compiled(self) -> Compiled:
        if self.made is None:
            self.made = Compiled(self.terms, self.digest)
        return self.made


class PromotionIndex(Source):
    """The promotions of a merchant: by digest, by code, and by what a cart must contain."""

    def __init__(
        self, promotions: Iterable[Promotion] = (), *, lanes: Sequence[Lane] = DEFAULT_LANES
    ) -> None:
        self.lanes = tuple(lanes)
        if len({lane.name for lane in self.lanes}) != len(self.lanes) or not self.lanes:
            raise InvalidInputError("lanes have different names, and there is one", field="lanes")
        self._entries: dict[str, Entry] = {}
        #: By promotion: the version in force.
        self._current: dict[str, str] = {}
        self._codes: dict[str, dict[str, Entry]] = {}
        self._postings: dict[str, dict[str, dict[str, Entry]]] = {kind: {} for kind in KINDS}
        self._thresholds: list[tuple[int, str]] = []
        self._always: dict[str, Entry] = {}
        for one in promotions:
            self._put(one.terms, one.digest, one.current, is_only=True)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: object) -> bool:
        return digest in self._entries

    def __iter__(self) -> Iterator[Promotion]:
        for one in self._entries.values():
            yield Promotion(one.terms, one.digest, one.current)

    def add(self, terms: Terms, digest: str, *, current: bool = True) -> None:
        """Put a version in force, or change whether it is the current one.

        A promotion has one current version: the one that was is not any more. Versions that are
        not current answer only to tokens and unique codes that name them.
        """
        before = self._current.get(terms.promotion_id)
        if current and before is not None and before != digest:
            self._put(self._entries[before].terms, before, False)
        self._put(terms, digest, current)

    def _put(self, terms: Terms, digest: str, current: bool, *, is_only: bool = False) -> None:
        """`is_only`: nothing says which of two versions came later, so one of them is too many."""
        self.remove(digest)
        entry = Entry(terms, digest, current)
        self._entries[digest] = entry
        if not current:
            return
        before = self._current.get(terms.promotion_id)
        if is_only and entry.answers and before is not None and self._entries[before].answers:
            raise InvalidInputError(
                f"two versions of the promotion {terms.promotion_id!r} are current",
                field="promotions",
                remedy="all but one of them are given with `current=False`",
            )
        if entry.answers or before is None:
            self._current[terms.promotion_id] = digest
        if isinstance(terms.access, Code):
            self._codes.setdefault(normalise_code(terms.access.code), {})[digest] = entry
        elif isinstance(terms.access, Automatic):
            self._post(entry)

    def remove(self, digest: str) -> bool:
        """Take a version out of force; False if it was not there."""
        entry = self._entries.pop(digest, None)
        if entry is None:
            return False
        if self._current.get(entry.promotion_id) == digest:
            del self._current[entry.promotion_id]
        if isinstance(entry.terms.access, Code) and entry.current:
            _drop(self._codes, normalise_code(entry.terms.access.code), digest)
        elif entry.needs:
            for kind, value in entry.needs:
                _drop(self._postings[kind], value, digest)
        elif entry.threshold:
            at = bisect_left(self._thresholds, (entry.threshold, digest))
            del self._thresholds[at]
        else:
            self._always.pop(digest, None)
        return True

    def get(self, digest: str) -> Promotion | None:
        """The promotion of a digest."""
        one = self._entries.get(digest)
        return None if one is None else Promotion(one.terms, one.digest, one.current)

    def by_digest(self, digest: str) -> Compiled | None:
        entry = self._entries.get(digest)
        return None if entry is None else entry.compiled()

    def by_code(self, code: str) -> list[Compiled]:
        return [entry.compiled() for entry in self._codes.get(code, {}).values()]

    def candidates(self, basket: Basket) -> list[Compiled]:
        found = self._always.copy()
        # Kinds that no promotion needs are not asked.
        for kind, of_kind in self._postings.items():
            if of_kind:
                for value in of_kind.keys() & _VALUES[kind](basket):
                    found |= of_kind[value]
        if self._thresholds:
            end = bisect_right(self._thresholds, (basket.subtotal, "\U0010ffff"))
            for _, digest in self._thresholds[: end + NEAR_MAX]:
                found[digest] = self._entries[digest]
        return [entry.made or entry.compiled() for entry in found.values()]

    def _post(self, entry: Entry) -> None:
        needs, threshold = needs_of(entry.terms)
        if needs is not None:
            entry.needs = needs
            for kind, value in needs:
                self._postings[kind].setdefault(value, {})[entry.digest] = entry
        elif threshold:
            entry.threshold = threshold
            insort(self._thresholds, (threshold, entry.digest))
        else:
            self._always[entry.digest] = entry


class Promotions(Source):
    """All promotions, each of them a candidate for every cart: the index's slow twin."""

    def __init__(
        self, promotions: Iterable[Promotion], *, lanes: Sequence[Lane] = DEFAULT_LANES
    ) -> None:
        self._index = PromotionIndex(promotions, lanes=lanes)
        self.lanes = self._index.lanes
        current = [one for one in self._index if one.current]
        self._automatic = [
            compiled
            for one in current
            if isinstance(one.terms.access, Automatic)
            and (compiled := self._index.by_digest(one.digest)) is not None
        ]

    def by_digest(self, digest: str) -> Compiled | None:
        return self._index.by_digest(digest)

    def by_code(self, code: str) -> list[Compiled]:
        return self._index.by_code(code)

    def candidates(self, basket: Basket) -> list[Compiled]:
        return self._automatic


class Without(Source):
    """A source without some promotions: those that a ledger cannot cover just now."""

    def __init__(self, source: Source, promotion_ids: Container[str]) -> None:
        self._source, self._excluded = source, promotion_ids
        self.lanes = source.lanes

    def by_digest(self, digest: str) -> Compiled | None:
        found = self._source.by_digest(digest)
        return None if found is None or found.promotion_id in self._excluded else found

    def by_code(self, code: str) -> list[Compiled]:
        return self._rest(self._source.by_code(code))

    def candidates(self, basket: Basket) -> list[Compiled]:
        return self._rest(self._source.candidates(basket))

    def _rest(self, found: list[Compiled]) -> list[Compiled]:
        return [one for one in found if one.promotion_id not in self._excluded]


def _named(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


#: What a cart has of each kind of terms.
_VALUES: dict[str, Callable[[Basket], Iterable[str]]] = {
    "sku": lambda basket: basket.skus,
    "gtin": lambda basket: [x.gtin for x in basket.lines if x.gtin is not None],
    "product": lambda basket: [x.product for x in basket.lines if x.product is not None],
    "brand": lambda basket: {x.brand for x in basket.lines if x.brand is not None},
    "tag": lambda basket: frozenset().union(*[x.tags for x in basket.lines]),
    "category": lambda basket: frozenset().union(*[x.categories for x in basket.lines]),
    "segment": lambda basket: basket.holder.segments,
    "store": lambda basket: _named(basket.cart.store),
    "region": lambda basket: _named(basket.cart.region),
    "channel": lambda basket: _named(basket.cart.channel),
    "shipping": lambda basket: _named(x.method if (x := basket.cart.shipping) else None),
    "payment": lambda basket: _named(basket.cart.payment_method),
}


def _drop(of_kind: dict[str, dict[str, Entry]], value: str, digest: str) -> None:
    posting = of_kind[value]
    del posting[digest]
    if not posting:
        del of_kind[value]
