"""The shelf: the promotions that this merchant takes part in, compiled, in memory.

It follows the datastore: after a commit that changed a promotion, that promotion is read again.
Evaluations in the event loop and in the writer thread share it under one lock.
"""

import threading
from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import InvariantError
from sconto.cart import PromotionIndex
from sconto.store import promotions
from sconto.store.writer import Store
from sconto.terms import Terms, decode_terms
from sconto.terms.counting import shared


class Held(NamedTuple):
    """What the checkout must know of a version of terms."""

    promotion_id: str
    #: Who promises it; None: this merchant.
    hub: str | None
    terms: Terms

    @property
    def zone(self) -> str:
        return self.terms.schedule.time_zone


class Shelf:
    """Promotions by terms digest, and the index over them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lock = threading.RLock()
        #: The writer and the news of other processes: who reads later is put on the shelf later.
        self._reading = threading.Lock()
        self.index = PromotionIndex()
        self._held: dict[str, Held] = {}
        self._digests: dict[str, list[str]] = {}
        #: Hubs' promotions in force with limits that merchants share.
        self._shared: dict[str, Held] = {}

    def load(self) -> None:
        """Read every promotion: at start, and after news that were missed."""
        after = ""
        while True:
            with self._reading, self._store.read() as connection:
                page = promotions.page(connection, after=after, limit=500)
                for promotion in page:
                    versions = promotions.versions(connection, promotion.promotion_id)
                    self._put(promotion, versions)
            if len(page) < 500:
                return
            after = page[-1].promotion_id

    def refresh(self, promotion_id: str) -> None:
        """Read one promotion again."""
        with self._reading, self._store.read() as connection:
            promotion = promotions.get(connection, promotion_id)
            versions = promotions.versions(connection, promotion_id)
            if promotion is not None:
                self._put(promotion, versions)

    def get(self, terms_digest: str) -> Held | None:
        """The terms behind a digest, whether in force or not."""
        return self._held.get(terms_digest)

    def shared(self) -> list[Held]:
        """Hubs' promotions in force with limits that merchants share."""
        with self.lock:
            return list(self._shared.values())

    def terms(self, connection: sa.Connection, terms_digest: str) -> Terms:
        """Terms that were redeemed here, in force or not."""
        held = self.find(connection, terms_digest)
        if held is None:
            raise InvariantError("terms that were redeemed are kept")
        return held.terms

    def find(self, connection: sa.Connection, terms_digest: str) -> Held | None:
        """Like `get`, also for terms that the transaction at hand has only just stored."""
        held = self._held.get(terms_digest)
        if held is not None:
            return held
        version = promotions.version(connection, terms_digest)
        promotion = None
        if version is not None:
            promotion = promotions.get(connection, version.promotion_id)
        if version is None or promotion is None:
            return None
        return Held(promotion.promotion_id, promotion.hub, decode_terms(version.document))

    def _put(self, promotion: promotions.Promotion, versions: list[promotions.Version]) -> None:
        is_in_force = promotion.status == "active" and promotion.is_accepted
        decoded = {
            v.terms_digest: self._held[v.terms_digest].terms
            if v.terms_digest in self._held
            else decode_terms(v.document)
            for v in versions
        }
        with self.lock:
            for terms_digest in self._digests.pop(promotion.promotion_id, ()):
                self.index.remove(terms_digest)
            for terms_digest, terms in decoded.items():
                self._held[terms_digest] = Held(promotion.promotion_id, promotion.hub, terms)
                if is_in_force:
                    is_current = terms_digest == promotion.terms_digest
                    self.index.add(terms, terms_digest, current=is_current)
            self._digests[promotion.promotion_id] = list(decoded)
            self._shared.pop(promotion.promotion_id, None)
            current = self._held[promotion.terms_digest]
            if is_in_force and current.hub is not None and shared(current.terms):
                self._shared[promotion.promotion_id] = current
