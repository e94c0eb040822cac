"""Endpoints of whoever promises promotions: a hub for its brands, a merchant for its own.

Terms are signed when they are published and never change; a promotion is launched, paused and
ended; its budget can be topped up without a new version. `server.promotion_changed(tx, promotion)`
tells the server inside the transaction, `server.promotion_opened(tx, promotion_id, cap)` that there
is a new budget, and `server.check_limits(before, terms)` refuses limits that it cannot keep.
"""

import re
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from sconto.base.documents import Document
from sconto.base.errors import ConflictError, InvalidInputError, NotFoundError, invariant
from sconto.base.fields import Identifier
from sconto.base.keys import sign_detached
from sconto.base.money import AMOUNT_MINOR_MAX
from sconto.ledger import UNLIMITED, Amounts, Budget
from sconto.servers.endpoint import Call, endpoint
from sconto.statistics import Counters
from sconto.store import access, journal, ledger
from sconto.store import promotions as store
from sconto.store.schema import promotions as promotions_table
from sconto.store.schema import transfers
from sconto.store.writer import Tx
from sconto.terms import TERMS_BYTES_MAX, Terms, decode_terms, encode_terms, terms_digest

TERMS_TYPE = "promo-terms+jws"
_BODY_BYTES_MAX = TERMS_BYTES_MAX + 4096
EXAMPLE_TERMS = {
    "promotion_id": "oaty-10",
    "title": "10 % off Oaty",
    "currency": "USD",
    "access": {"type": "token"},
    "benefits": [
        {"type": "percent_off", "basis_points": 1000, "items": {"include": [{"brands": ["oaty"]}]}}
    ],
    "limits": [{"uses": 10000}],
}


class NewPromotion(Document):
    """A promotion to promise. Its limits for the promotion as a whole are its budget."""

    terms: Terms
    #: Start at once; otherwise it is a draft until it is launched.
    launch: bool = False
    #: Operators may publish for a tenant.
    tenant_id: Identifier | None = None


class NewVersion(Document):
    """The next version of the terms; tokens keep the version that they were issued under."""

    terms: Terms


class TopUp(Document):
    """More budget for the same promise."""

    top_up_id: Annotated[Identifier, Meta(max_length=100)]
    uses: Annotated[int, Meta(ge=0, le=10**12)] = 0
    amount_minor: Annotated[int, Meta(ge=0, le=10**12)] = 0


class Balances(Document):
    """Where the units of a budget are, in one dimension; see sconto.ledger.budget."""

    cap: int
    free: int
    open: int
    spent: int
    written_off: int


class BudgetDocument(Document):
    """None: the terms do not limit this dimension."""

    uses: Balances | None = None
    amount_minor: Balances | None = None


class PromotionDocument(Document):
    """A promotion as this server has it."""

    promotion_id: str
    tenant_id: str
    #: draft, active, paused or ended
    status: str
    title: str
    version: int
    terms_digest: str
    #: The detached JWS over the canonical terms.
    signature: str
    #: The hub that it came from, where it is not this server's own.
    hub: str | None = None
    is_accepted: bool = True
    budget: BudgetDocument | None = None
    terms: Any = None


class StatisticsDocument(Document):
    """Counters, a row for each combination of what was asked for by."""

    rows: tuple[dict[str, Any], ...]
    totals: dict[str, int]
    #: Refusals at checkout by reason.
    refused: dict[str, int]


@endpoint(
    "POST",
    "/v1/promotions",
    scope="promotions:write",
    summary="Publish the first version of a promotion's terms",
    accepts=NewPromotion,
    accepts_example={"terms": EXAMPLE_TERMS, "launch": True},
    returns=PromotionDocument,
    status=201,
    max_bytes=_BODY_BYTES_MAX,
)
async def add_promotion(server: Any, call: Call) -> PromotionDocument:
    """The same terms again answer as before; another promotion under the same id is a conflict."""
    new: NewPromotion = call.document
    tenant_id = call.principal.tenant_id
    if new.tenant_id is not None and new.tenant_id != tenant_id:
        call.principal.require("admin")
        tenant_id = new.tenant_id
    if new.terms.version != 1:
        raise InvalidInputError(
            "a new promotion starts with version 1",
            field="terms.version",
            remedy="publish later versions at /v1/promotions/{promotion_id}/versions",
        )
    server.check_limits(None, new.terms)
    version = _signed(server, new.terms)
    cap = Amounts(*(UNLIMITED if part is None else part for part in new.terms.budget()))

    def command(tx: Tx) -> PromotionDocument:
        known = store.get(tx.connection, version.promotion_id)
        if known is not None:
            first = store.versions(tx.connection, version.promotion_id)[0]
            if known.tenant_id == tenant_id and first.terms_digest == version.terms_digest:
                return _document(tx.connection, known)
            raise _taken(version.promotion_id)
        if access.tenant_kind(tx.connection, tenant_id) is None:
            raise NotFoundError(f"there is no tenant {tenant_id}", field="tenant_id")
        status = "active" if new.launch else "draft"
        store.save(tx, version, tenant_id=tenant_id, hub=None, status=status, is_accepted=True)
        ledger.open_budget(tx, version.promotion_id, cap, version.terms_digest)
        server.promotion_opened(tx, version.promotion_id, cap)
        return _changed(server, tx, version.promotion_id)

    made: PromotionDocument = await server.base.store.write(call.once(command))
    return made


@endpoint(
    "POST",
    "/v1/promotions/{promotion_id:str}/versions",
    scope="promotions:write",
    summary="Publish the next version of a promotion's terms",
    accepts=NewVersion,
    accepts_example={"terms": {**EXAMPLE_TERMS, "version": 2}},
    returns=PromotionDocument,
    status=201,
    max_bytes=_BODY_BYTES_MAX,
)
async def add_version(server: Any, call: Call) -> PromotionDocument:
    """The budget stays as it is: raise it by a top-up. A changed limit of the whole is refused."""
    terms: Terms = call.document.terms
    if terms.promotion_id != call.params["promotion_id"]:
        raise InvalidInputError("these are terms of another promotion", field="terms.promotion_id")
    version = _signed(server, terms)

    def command(tx: Tx) -> PromotionDocument:
        known = promised_here(call, tx.connection)
        if known.terms_digest == version.terms_digest:
            return _document(tx.connection, known)
        if version.version != known.version + 1:
            raise ConflictError(
                f"the next version is {known.version + 1}",
                code="version_not_next",
                field="terms.version",
                current_version=known.version,
            )
        if decode_terms(known.document).budget() != terms.budget():
            raise ConflictError(
                "a new version cannot change the budget",
                code="budget_changed",
                field="terms.limits",
                remedy="top it up at /v1/promotions/{promotion_id}/top-ups",
            )
        server.check_limits(decode_terms(known.document), terms)
        store.save(
            tx,
            version,
            tenant_id=known.tenant_id,
            hub=None,
            status=known.status,
            is_accepted=True,
        )
        return _changed(server, tx, version.promotion_id)

    made: PromotionDocument = await server.base.store.write(call.once(command))
    return made


#: From which states an act leads where.
_ACTS = {
    "launch": (("draft", "paused"), "active"),
    "pause": (("active",), "paused"),
    "end": (("draft", "active", "paused"), "ended"),
}


@endpoint(
    "POST",
    "/v1/promotions/{promotion_id:str}/{act:str}",
    scope="promotions:write",
    summary="Launch, pause or end a promotion: `act` is launch, pause or end",
    returns=PromotionDocument,
)
async def act_on_promotion(server: Any, call: Call) -> PromotionDocument:
    act = call.params["act"]
    if act not in _ACTS:
        raise NotFoundError(
            f"a promotion has no act {act[:40]!r}", field="act", remedy="launch, pause or end"
        )
    sources, target = _ACTS[act]

    def command(tx: Tx) -> PromotionDocument:
        known = promised_here(call, tx.connection)
        if known.status == target:
            return _document(tx.connection, known)
        if known.status not in sources:
            raise ConflictError(
                f"a promotion that is {known.status} cannot be {target}",
                code="status_conflict",
                field="status",
                status_now=known.status,
            )
        store.set_status(tx, known.promotion_id, target)
        if known.status == "draft" and target == "ended":
            return _document(tx.connection, known._replace(status=target))  # nobody heard of it
        return _changed(server, tx, known.promotion_id)

    changed: PromotionDocument = await server.base.store.write(call.once(command))
    return changed


@endpoint(
    "POST",
    "/v1/promotions/{promotion_id:str}/top-ups",
    scope="promotions:write",
    summary="Add to a promotion's budget",
    accepts=TopUp,
    accepts_example={"top_up_id": "2026-12", "uses": 5000},
    returns=PromotionDocument,
)
async def top_up(server: Any, call: Call) -> PromotionDocument:
    """Once per `top_up_id`; the same id with other amounts is a conflict."""
    added: TopUp = call.document
    if not added.uses and not added.amount_minor:
        raise InvalidInputError("say how much to add: uses or amount_minor", field="uses")

    def command(tx: Tx) -> PromotionDocument:
        known = promised_here(call, tx.connection)
        reference = f"top-up:{added.top_up_id}"
        before = tx.read(
            sa.select(transfers.c.uses, transfers.c.minor).where(
                transfers.c.promotion_id == known.promotion_id,
                sa.text("reason = 'top_up'"),  # as in the index
                transfers.c.reference == reference,
            )
        ).first()
        amounts = Amounts(added.uses, added.amount_minor)
        if before is not None:
            if tuple(before) != amounts:
                raise ConflictError(
                    "this top-up was made with other amounts",
                    code="exists_with_different_amount",
                    field="top_up_id",
                )
            return _document(tx.connection, known)
        budget = ledger.budget_of(tx.connection, known.promotion_id)
        invariant(budget is not None, "a promotion has a budget where it is promised")
        if budget is None:
            return _document(tx.connection, known)
        for name, part, cap in zip(("uses", "amount_minor"), amounts, budget.cap, strict=True):
            if part and cap >= UNLIMITED:
                raise ConflictError(
                    f"the terms do not limit {name}", code="not_limited", field=name
                )
            if part and part + cap > AMOUNT_MINOR_MAX:
                raise ConflictError(
                    f"a budget is at most {AMOUNT_MINOR_MAX}", code="too_much", field=name, cap=cap
                )
        ledger.top_up(tx, known.promotion_id, amounts, reference)
        server.promotion_opened(tx, known.promotion_id, amounts)
        return _document(tx.connection, known)

    done: PromotionDocument = await server.base.store.write(call.once(command))
    return done


@endpoint(
    "GET",
    "/v1/promotions",
    scope="promotions:read",
    summary="The caller's promotions, by id; an operator sees those of every tenant",
    returns=dict[str, Any],
    query={
        "after": "the last id of the page before",
        "limit": "at most so many, 1 to 1000",
        "status": "draft, active, paused or ended",
    },
)
async def list_promotions(server: Any, call: Call) -> dict[str, Any]:
    limit = call.limit(50)
    principal = call.principal
    with server.base.store.read() as connection:
        rows = store.page(
            connection,
            after=call.query.get("after", ""),
            limit=limit,
            tenant_id=None if principal.is_operator else principal.tenant_id,
            status=call.query.get("status"),
        )
        listed = [_document(connection, row) for row in rows]
    return {
        "promotions": listed,
        "next": rows[-1].promotion_id if len(rows) == limit else None,
    }


@endpoint(
    "GET",
    "/v1/promotions/{promotion_id:str}",
    scope="promotions:read",
    summary="One promotion with its terms and budget",
    returns=PromotionDocument,
)
async def show_promotion(server: Any, call: Call) -> PromotionDocument:
    with server.base.store.read() as connection:
        promotion = own(call, connection)
        document = _document(connection, promotion)
    return msgspec.structs.replace(document, terms=msgspec.Raw(promotion.document))


@endpoint(
    "GET",
    "/v1/terms/{digest:path}",
    scope="any",
    summary="The terms that a digest names, with the signature of who promised them",
    returns=dict[str, Any],
)
async def show_terms(server: Any, call: Call) -> dict[str, Any]:
    """For whoever holds or accepts a promise; drafts are for their tenant only."""
    # As it came: the router makes one slash of two, and a digest may have two.
    path = unquote(call.raw_target.partition("?")[0])
    terms_digest = path.removeprefix("/v1/terms/")
    with server.base.store.read() as connection:
        version = store.version(connection, terms_digest)
        promotion = None if version is None else store.get(connection, version.promotion_id)
    if version is None or promotion is None or not _may_see(call, promotion):
        raise NotFoundError("there are no such terms", field="digest")
    return {
        "terms_digest": version.terms_digest,
        "terms": msgspec.Raw(version.document),
        "signature": version.signature,
        "signed_by": promotion.hub or server.base.home.url,
    }


_DIMENSIONS = {"promotion": "promotion_id", "merchant": "merchant", "day": "day"}
STATISTICS_QUERY = {
    "promotion_id": "of this promotion only",
    "by": "rows by promotion, merchant, day, or several joined by commas; promotion if absent",
}


@endpoint(
    "GET",
    "/v1/statistics",
    scope="promotions:read",
    summary="Counts of the caller's promotions, folded from the journal",
    returns=StatisticsDocument,
    query=STATISTICS_QUERY,
    example=StatisticsDocument(
        rows=({"promotion_id": "oaty-10", **Counters(1, 1, 1, 1, 1, 0, 105, 0)._asdict()},),
        totals=Counters(1, 1, 1, 1, 1, 0, 105, 0)._asdict(),
        refused={},
    ),
)
async def show_statistics(server: Any, call: Call) -> StatisticsDocument:
    with server.base.store.read() as connection:
        only = _statistics_scope(call, connection)
        return statistics_of(connection, call, only, _merchants_of(call, connection))


def statistics_of(
    connection: sa.Connection, call: Call, only: list[str] | None, merchants: list[str] | None
) -> StatisticsDocument:
    """Counts of promotions (None: all) at merchants (None: all), by what the caller asks for.

    Raises InvalidInputError for an unknown `by`.
    """
    names = [part for part in call.query.get("by", "promotion").split(",") if part]
    for name in names:
        if name not in _DIMENSIONS:
            raise InvalidInputError(
                f"there are no rows by {name[:40]!r}",
                field="by",
                remedy=f"use {', '.join(_DIMENSIONS)}",
            )
    cells = journal.cells(connection, promotions=only, merchants=merchants)
    refused = journal.refusals(connection, promotions=only, merchants=merchants)
    rows: dict[tuple[str, ...], Counters] = {}
    totals = Counters()
    for cell, counters in cells:
        key = tuple(getattr(cell, _DIMENSIONS[name]) for name in names)
        rows[key] = rows.get(key, Counters()).plus(counters)
        totals = totals.plus(counters)
    return StatisticsDocument(
        rows=tuple(
            {
                **{_DIMENSIONS[n]: part for n, part in zip(names, key, strict=True)},
                **counters._asdict(),
            }
            for key, counters in sorted(rows.items())
        ),
        totals=totals._asdict(),
        refused=refused,
    )


class _Titled(msgspec.Struct):
    title: str


ENDPOINTS = (
    add_promotion,
    add_version,
    top_up,
    act_on_promotion,
    list_promotions,
    show_promotion,
    show_terms,
    show_statistics,
)


_PROMOTION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@~-]{0,99}")


def _signed(server: Any, terms: Terms) -> store.Version:
    if not _PROMOTION_ID.fullmatch(terms.promotion_id):
        raise InvalidInputError(
            "a promotion id has 1 to 100 of letters, digits and ._:@~- and begins with one of the"
            " first two",
            field="terms.promotion_id",
            remedy="it stands in addresses, receipts and tokens",
        )
    document = encode_terms(terms)
    return store.Version(
        terms.promotion_id,
        terms.version,
        terms_digest(terms),
        document,
        sign_detached(server.base.home.key, TERMS_TYPE, document),
    )


def promised_here(call: Call, connection: sa.Connection) -> store.Promotion:
    """The caller's own promotion in the path; only whoever promised can change a promise."""
    promotion = own(call, connection)
    if promotion.hub is not None:
        raise ConflictError(
            f"{promotion.promotion_id} is promised at {promotion.hub}",
            code="promised_elsewhere",
            field="promotion_id",
            remedy="change it there; /v1/acceptances says whether this merchant takes part",
        )
    return promotion


def own(call: Call, connection: sa.Connection) -> store.Promotion:
    """The promotion in the path, or 404 when it is not there or another tenant's."""
    promotion = store.get(connection, call.params["promotion_id"])
    if promotion is None or not (
        promotion.tenant_id == call.principal.tenant_id or call.principal.is_operator
    ):
        raise NotFoundError(
            f"there is no promotion {call.params['promotion_id'][:100]}", field="promotion_id"
        )
    return promotion


def _may_see(call: Call, promotion: store.Promotion) -> bool:
    is_own = promotion.tenant_id == call.principal.tenant_id or call.principal.is_operator
    return is_own or promotion.status != "draft"


def _merchants_of(call: Call, connection: sa.Connection) -> list[str] | None:
    """At a hub a merchant sees what happened at its own servers only; None: at all."""
    principal = call.principal
    if principal.is_operator or principal.tenant_kind != "merchant":
        return None
    peers = access.list_peers(connection)
    return [peer.url for peer in peers if peer.tenant_id == principal.tenant_id]


def _statistics_scope(call: Call, connection: sa.Connection) -> list[str] | None:
    """The promotions whose counts the caller may see; None: all."""
    asked = call.query.get("promotion_id")
    principal = call.principal
    if principal.is_operator or principal.tenant_kind == "merchant":
        return None if asked is None else [asked]
    query = sa.select(promotions_table.c.promotion_id).where(
        promotions_table.c.tenant_id == principal.tenant_id
    )
    own = list(connection.execute(query).scalars())
    if asked is None:
        return own
    if asked not in own:
        raise NotFoundError(f"there is no promotion {asked[:100]}", field="promotion_id")
    return [asked]


def _changed(server: Any, tx: Tx, promotion_id: str) -> PromotionDocument:
    promotion = store.get(tx.connection, promotion_id)
    if promotion is None:
        raise NotFoundError(f"there is no promotion {promotion_id}", field="promotion_id")
    server.promotion_changed(tx, promotion)
    return _document(tx.connection, promotion)


def _document(connection: sa.Connection, promotion: store.Promotion) -> PromotionDocument:
    budget = ledger.budget_of(connection, promotion.promotion_id)
    return PromotionDocument(
        promotion_id=promotion.promotion_id,
        tenant_id=promotion.tenant_id,
        status=promotion.status,
        title=msgspec.json.decode(promotion.document, type=_Titled).title,
        version=promotion.version,
        terms_digest=promotion.terms_digest,
        signature=promotion.signature,
        hub=promotion.hub,
        is_accepted=promotion.is_accepted,
        budget=None if budget is None else _budget_document(budget),
    )


def _budget_document(budget: Budget) -> BudgetDocument:
    def balances(unit: str) -> Balances | None:
        if getattr(budget.cap, unit) >= UNLIMITED:
            return None
        return Balances(
            cap=getattr(budget.cap, unit),
            free=getattr(budget.free, unit),
            open=getattr(budget.open, unit),
            spent=getattr(budget.spent, unit),
            written_off=getattr(budget.written_off, unit),
        )

    return BudgetDocument(uses=balances("uses"), amount_minor=balances("minor"))


def _taken(promotion_id: str) -> ConflictError:
    return ConflictError(
        f"the promotion id {promotion_id} is taken with other terms",
        code="exists_with_different_terms",
        field="terms.promotion_id",
        remedy="choose another id, or publish a new version",
    )
