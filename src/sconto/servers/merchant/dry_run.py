"""Dry runs: what a cart would get at another instant, with drafts, with every reason told.

Nothing is recorded and no budget is asked: a dry run says what terms do, not what is left. It is
for whoever may read promotions anyway (`promotions:read`); a tenant that is not the merchant sees
its own promotions only.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import sqlalchemy as sa
from msgspec import Meta, structs

from sconto.base.documents import Document
from sconto.base.errors import InvalidInputError
from sconto.cart import Evaluation, Promotion, evaluate
from sconto.cart.index import Source, Without
from sconto.cart.trial import Beside, holder_of_all
from sconto.servers.endpoint import Call, instant_ms
from sconto.servers.merchant.recognise import Holding
from sconto.store import promotions
from sconto.terms import Terms, decode_terms

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

TERMS_MAX = 100
_PAGE = 500


class DryRun(Document):
    """What to suppose."""

    #: When it happens; now if absent. Needs no `replay`, since nothing is recorded.
    at: datetime | None = None
    #: Drafts to try, each in place of the version in force. Whoever asks holds a token, or the
    #: typed code, of each of them that wants one.
    terms: Annotated[tuple[Terms, ...], Meta(max_length=TERMS_MAX)] = ()
    #: Also the drafts that this server has.
    include_drafts: bool = False


def dry_run_ms(call: Call, dry_run: DryRun) -> int:
    """The instant of a dry run. Raises ForbiddenError without `promotions:read`."""
    call.principal.require("promotions:read")
    return call.now_ms if dry_run.at is None else instant_ms(dry_run.at, "dry_run.at")


def evaluate_dry(
    server: "Merchant", call: Call, dry_run: DryRun, held: Holding, at_ms: int
) -> Evaluation:
    """Every promotion that the caller may see, as for a proven holder."""
    named = [terms.promotion_id for terms in dry_run.terms]
    for i, promotion_id in enumerate(named):
        if promotion_id in named[:i]:
            raise InvalidInputError(
                "two of the terms are of one promotion", field=f"dry_run.terms[{i}].promotion_id"
            )
    own = not (call.principal.is_operator or call.principal.tenant_kind == "merchant")
    tenant_id = call.principal.tenant_id if own else None
    drafts = [Promotion.of(terms) for terms in dry_run.terms]
    with server.base.store.read() as connection:
        if dry_run.include_drafts:
            drafts += [
                x for x in _drafts(connection, tenant_id) if x.terms.promotion_id not in named
            ]
        hidden = _Others(connection, tenant_id) if tenant_id is not None else None
    holder = structs.replace(held.holder, proven=True)
    holder = holder_of_all(drafts, held.cart, at_ms=at_ms, holder=holder)
    with server.shelf.lock:
        source: Source = server.shelf.index
        if hidden is not None:
            source = Without(source, hidden)
        return evaluate(held.cart, Beside(source, drafts), holder, at_ms=at_ms)


def _drafts(connection: sa.Connection, tenant_id: str | None) -> list[Promotion]:
    found: list[Promotion] = []
    after = ""
    while True:
        page = promotions.page(
            connection, after=after, limit=_PAGE, tenant_id=tenant_id, status="draft"
        )
        found += [Promotion(decode_terms(one.document), one.terms_digest) for one in page]
        if len(page) < _PAGE:
            return found
        after = page[-1].promotion_id


class _Others:
    """The promotions of other tenants: all ids but the tenant's own."""

    def __init__(self, connection: sa.Connection, tenant_id: str) -> None:
        self._own = promotions.ids_of(connection, tenant_id)

    def __contains__(self, promotion_id: object) -> bool:
        return promotion_id not in self._own
