"""The hub's promotions: their terms in memory, and telling merchants about them.

Terms are immutable by their digest, so the memory needs no refreshing. What may change of a
promotion (its status, how many tokens are out) is asked of the datastore in each transaction.
"""

import msgspec
import sqlalchemy as sa

from sconto.base.clock import day_of
from sconto.base.errors import InvariantError, invariant
from sconto.store import access, promotions
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.terms import Terms, decode_terms, sentence
from sconto.tokens.issue import USES_MAX

CHANGED = "sconto.promotion.changed.v1"
_KNOWN_MAX = 20_000
_PAGE = 200


class Catalogue:
    """Decoded terms by digest. Used by the event loop and the writer thread alike."""

    def __init__(self) -> None:
        self._terms: dict[str, Terms] = {}
        self._sentences: dict[str, str] = {}

    def terms(self, connection: sa.Connection, terms_digest: str) -> Terms | None:
        """The terms that a digest names; None when this hub has no such terms."""
        known = self._terms.get(terms_digest)
        if known is None:
            version = promotions.version(connection, terms_digest)
            if version is None:
                return None
            known = decode_terms(version.document)
            if len(self._terms) >= _KNOWN_MAX:
                self._terms.clear()
            self._terms[terms_digest] = known
        return known

    def promised(self, connection: sa.Connection, terms_digest: str) -> Terms:
        """The terms behind a frame or token of ours, which were looked up when it came in."""
        terms = self.terms(connection, terms_digest)
        if terms is None:
            raise InvariantError("terms of a stored frame or token are never deleted")
        return terms

    def sentence(self, connection: sa.Connection, terms_digest: str) -> str:
        """What these terms promise, in one plain English sentence."""
        known = self._sentences.get(terms_digest)
        if known is None:
            known = sentence(self.promised(connection, terms_digest))
            if len(self._sentences) >= _KNOWN_MAX:
                self._sentences.clear()
            self._sentences[terms_digest] = known
        return known


def day_in(terms: Terms, at_ms: int) -> str:
    """Calendar day of an instant where the promotion is."""
    return day_of(at_ms, terms.schedule.time_zone).isoformat()


def uses_of(terms: Terms) -> int:
    """How often one token of these terms may be used: its limit per token, once where none is."""
    whole = [i.uses for i in terms.limits if i.per == {"token"} and i.period == "ever"]
    uses = min((u for u in whole if u is not None), default=1)
    shopper = [limit for limit, _ in shopper_limits(terms)]
    return min(uses, USES_MAX, *shopper) if shopper else min(uses, USES_MAX)


def uses_of_token(token: Token, terms: Terms) -> int:
    """How often a token may be used: as its terms say, where no move has made that differ."""
    return uses_of(terms) if token.uses is None else token.uses


def shopper_limits(terms: Terms) -> list[tuple[int, bool]]:
    """Uses that one shopper may have for ever, and whether that is for each merchant apart.

    They are kept by limiting the tokens that are issued, so that they hold offline as well. Limits
    of uses in a period, per store or by an attribute are looked at where a cart is.
    """
    found = []
    for limit in terms.limits:
        others = limit.per - {"shopper", "promotion"}
        if "shopper" in limit.per and limit.period == "ever" and limit.uses is not None:
            if not others:
                found.append((limit.uses, False))
            elif others == {"merchant"}:
                found.append((limit.uses, True))
    return found


def promotion_changed(tx: Tx, promotion: promotions.Promotion) -> None:
    """Tell every merchant, inside the transaction that changed it; drafts are the brand's own."""
    if promotion.status == "draft":
        return
    for peer in access.list_peers(tx.connection):
        if peer.kind == "merchant":
            _tell(tx, peer.url, promotion)


def peer_added(tx: Tx, peer: access.Peer) -> None:
    """A new merchant hears of all active promotions, inside the transaction that registers it."""
    if peer.kind != "merchant":
        return
    after = ""
    while page := promotions.page(tx.connection, after=after, limit=_PAGE, status="active"):
        for promotion in page:
            _tell(tx, peer.url, promotion)
        after = page[-1].promotion_id


def tell_version(tx: Tx, merchant: str, promotion: promotions.Promotion, terms_digest: str) -> None:
    """Tell a merchant of an older version of a promotion, before it is sent a token of it."""
    if promotion.terms_digest == terms_digest:
        return  # it takes part, so it knows the version in force
    older = promotions.version(tx.connection, terms_digest)
    invariant(older is not None, "terms of a token are never deleted")
    if older is not None:
        promised = promotion._replace(document=older.document, signature=older.signature)
        _tell(tx, merchant, promised)


def _tell(tx: Tx, merchant: str, promotion: promotions.Promotion) -> None:
    tx.send(
        merchant,
        CHANGED,
        promotion.promotion_id,
        {
            "promotion_id": promotion.promotion_id,
            "terms": msgspec.Raw(promotion.document),
            "signature": promotion.signature,
            "status": promotion.status,
        },
    )
