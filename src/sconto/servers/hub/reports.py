"""Reports come in: what happened to the hub's promotions at a merchant's checkouts.

A report is an entry of the merchant's journal. What the hub accepts of it goes into its own journal
and so into its statistics; what it will not pay is kept with the reason and counted nowhere.

1. A report that is not one (another merchant's, unknown terms, impossible figures) is parked.
2. The same redemption again changes nothing; the same id with other content is parked.
3. A redemption that the hub did not promise is *disputed*: an unknown token, another merchant's,
   one for other terms, an expired one, a use that was used, more than the merchant was granted,
   or not from a part of each limit that it counts in.
4. Everything else is settled from the merchant's parts, and the token's wallet is told.

Reports come by the thousand: those of a batch are applied together, as if one after the other.
"""

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct

from sconto.base.clock import rfc3339
from sconto.base.documents import from_builtins
from sconto.base.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    ScontoError,
)
from sconto.base.fields import Digest, Identifier
from sconto.ledger import Amounts, Entry
from sconto.servers.endpoint import INSTANT_MAX_MS
from sconto.servers.exchange import Together
from sconto.servers.hub import counters
from sconto.servers.hub.allotments import Amount, check_merchant
from sconto.servers.hub.catalogue import day_in, uses_of
from sconto.store import reports
from sconto.store.reports import Report, Reports, Used
from sconto.store.writer import Tx
from sconto.terms import Terms
from sconto.terms.counting import shared
from sconto.terms.model import TokenAccess, UniqueCodes

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

REDEEMED = "sconto.token.redeemed.v1"
REVERSED = "sconto.token.reversed.v1"

_Id26 = Annotated[str, Meta(pattern=r"^[0-9A-Z]{26}$(?!\n)")]
_Id100 = Annotated[str, Meta(pattern=r"^[!-~]{1,100}$(?!\n)")]
_Id160 = Annotated[str, Meta(pattern=r"^[!-~]{1,160}$(?!\n)")]


class ReportedEntry(Entry, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """`sconto.ledger.Entry` with the bounds that a stranger must keep to."""

    kind: Literal["reserved", "refused", "redeemed", "released", "expired", "reversed"]
    promotion_id: Identifier
    merchant: str
    at_ms: Annotated[int, Meta(ge=0, le=INSTANT_MAX_MS)]
    day: str
    terms_digest: Digest
    frame_id: Annotated[str, Meta(max_length=100)] = ""
    token_id: _Id26 | Literal[""] = ""
    order_id: _Id100 | Literal[""] = ""
    redemption_id: _Id160 | Literal[""] = ""
    allotment_id: _Id26 | Literal[""] = ""
    amount_minor: Amount = 0
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")] | Literal[""] = ""
    is_direct: bool = False
    is_complete: bool = False
    reason: Annotated[str, Meta(max_length=64)] = ""


class Reported(Struct, kw_only=True, omit_defaults=True, gc=False):
    """Data of `sconto.journal.reported.v1`."""

    entry: ReportedEntry
    #: The merchant's signed receipt of a redemption, for the wallet.
    receipt: Annotated[str, Meta(max_length=65_536)] | None = None
    #: Of a redemption: the parts of limits that merchants share, from which it is taken too.
    parts: Annotated[tuple[_Id26, ...], Meta(max_length=64)] = ()


def journal_reported(
    hub: "Hub", tx: Tx, source: str, several: Sequence[Any]
) -> list[ScontoError | None]:
    """Apply entries of a merchant's journal, in order; why which of them are parked."""
    try:
        check_merchant(hub, source)
    except ScontoError as error:
        return [error] * len(several)
    errors: list[ScontoError | None] = [None] * len(several)
    read: list[tuple[int, Reported, _Terms]] = []
    seen: dict[str, _Terms] = {}
    for number, data in enumerate(several):
        try:
            reported = _read(source, data)
            entry = reported.entry
            terms = seen.get(entry.terms_digest)
            if terms is None:
                terms = seen[entry.terms_digest] = _terms_of(hub, tx, entry)
            _check_terms(terms.terms, entry)
            read.append((number, reported, terms))
        except ScontoError as error:
            errors[number] = error
    moving = [one.entry for _, one, _ in read if one.entry.kind in ("redeemed", "reversed")]
    parts = (part for _, one, _ in read for part in one.parts)
    known = Reports(tx, moving, hub.base.home.incarnation, parts)
    for number, reported, terms in read:
        try:
            _apply(tx, known, reported, terms)
        except ScontoError as error:
            errors[number] = error
    known.write()
    return errors


class _Terms(NamedTuple):
    terms: Terms
    #: How often a token of them may be used.
    uses: int
    #: Whether they have a limit that merchants share.
    is_shared: bool


def _uses_of(token: Used, terms: _Terms) -> int:
    return terms.uses if token.uses is None else token.uses


def _read(source: str, data: Any) -> Reported:
    reported = data
    if not isinstance(reported, Reported):
        reported = from_builtins(data, Reported, what="data", field="data")
    if reported.entry.merchant != source:
        raise ForbiddenError("a merchant reports its own checkouts", field="data.entry.merchant")
    return reported


def _terms_of(hub: "Hub", tx: Tx, entry: Entry) -> _Terms:
    terms = hub.catalogue.terms(tx.connection, entry.terms_digest)
    if terms is None:
        raise NotFoundError("these terms are not of this hub", field="data.entry.terms_digest")
    return _with_limits(terms)


def _with_limits(terms: Terms) -> _Terms:
    return _Terms(terms, uses_of(terms), bool(shared(terms)))


def _check_terms(terms: Terms, entry: Entry) -> None:
    if terms.promotion_id != entry.promotion_id:
        raise NotFoundError("these terms are not of this hub", field="data.entry.terms_digest")
    day = day_in(terms, entry.at_ms)
    if entry.day != day:
        raise InvalidInputError(f"at_ms is on {day} where the promotion is", field="data.entry.day")


def _apply(tx: Tx, known: Reports, reported: Reported, terms: _Terms) -> None:
    """Apply one entry to what is known. It refuses before it changes anything."""
    if reported.entry.kind == "redeemed":
        _redeemed(tx, known, reported.entry, terms, reported)
    elif reported.entry.kind == "reversed":
        _reversed(tx, known, reported.entry)
    else:
        tx.record(reported.entry)


def _redeemed(tx: Tx, known: Reports, entry: Entry, terms: _Terms, reported: Reported) -> None:
    for name, value in (
        ("redemption_id", entry.redemption_id),
        ("order_id", entry.order_id),
        ("allotment_id", entry.allotment_id),
    ):
        if not value:
            raise InvalidInputError(f"a redemption has a {name}", field=f"data.entry.{name}")
    if len(set(reported.parts)) < len(reported.parts):
        raise InvalidInputError("a part is named once", field="data.parts")
    currency = terms.terms.currency
    if entry.currency != currency:
        raise InvalidInputError(f"the terms are in {currency}", field="data.entry.currency")
    before = known.get(entry.redemption_id)
    if before is not None:
        _check_same(before, entry)
        return
    token, use_number, why = _judge(known, entry, terms, reported.parts)
    if reported.parts:
        known.share(entry.redemption_id, reported.parts)
    if why is not None:
        known.put(report_of(entry, "disputed", why, None))
        return
    report = report_of(entry, "redeemed", None, use_number)
    _accept(tx, known, entry, terms, token, report, reported.receipt)


def judge_again(hub: "Hub", tx: Tx, allotment_id: str) -> None:
    """An allotment is known after all: its redemptions are judged anew."""
    disputed = reports.disputed(tx.connection, allotment_id, "allotment_unknown")
    judged = []
    for report in disputed:
        terms = hub.catalogue.promised(tx.connection, report.terms_digest)
        entry = Entry(
            kind="redeemed",
            promotion_id=report.promotion_id,
            merchant=report.merchant,
            at_ms=report.at_ms,
            day=day_in(terms, report.at_ms),
            terms_digest=report.terms_digest,
            token_id=report.token_id or "",
            order_id=report.order_id,
            redemption_id=report.redemption_id,
            allotment_id=report.allotment_id,
            amount_minor=report.amount_minor,
            currency=report.currency,
            is_direct=True,
        )
        judged.append((report, entry, _with_limits(terms)))
    known = Reports(tx, [entry for _, entry, _ in judged], hub.base.home.incarnation)
    for report, entry, promised in judged:
        parts = known.shared(entry.redemption_id)
        token, use_number, why = _judge(known, entry, promised, parts)
        if why is None:
            paid = report._replace(state="redeemed", dispute=None, use_number=use_number)
            _accept(tx, known, entry, promised, token, paid, None)
    known.write()


def _judge(
    known: Reports, entry: Entry, terms: _Terms, parts: Sequence[str]
) -> tuple[Used | None, int | None, str | None]:
    """Settle a redemption, or say why it is not paid; with its token and the use of it."""
    token = known.token(entry.token_id)
    use_number = None
    if token is not None:
        taken = known.uses_taken(token.token_id)
        free = 1 if not taken else next(n for n in count(1) if n not in taken)
        use_number = free if free <= _uses_of(token, terms) else None
    why = _dispute(known, entry, terms.terms, token, use_number)
    if why is None and (parts or terms.is_shared):
        why = counters.dispute(known.parts, entry, terms.terms, parts)
    spent = Amounts(1, entry.amount_minor)
    if why is None and not known.parts.settle(entry.allotment_id, spent, entry.redemption_id):
        why = "beyond_grant"
    if why is None:
        counters.settle(known.parts, entry, parts)
    return token, use_number, why


def _accept(
    tx: Tx,
    known: Reports,
    entry: Entry,
    terms: _Terms,
    token: Used | None,
    report: Report,
    receipt: str | None,
) -> None:
    known.put(report)
    tx.record(entry)
    if token is not None:
        taken = known.uses_taken(token.token_id)
        if len(taken) >= _uses_of(token, terms) and known.status(token) == "issued":
            known.set_status(token, "redeemed")
        _tell_wallet(tx, REDEEMED, token, report, entry, receipt)


def _dispute(
    known: Reports, entry: Entry, terms: Terms, token: Used | None, use_number: int | None
) -> str | None:
    """Why a redemption will not be paid; None where nothing speaks against it but the budget."""
    allotment = known.parts.allotment(entry.allotment_id)
    if allotment is None or (allotment.holder, allotment.promotion_id, allotment.counter) != (
        entry.merchant,
        entry.promotion_id,
        "",
    ):
        return "allotment_unknown"
    if not entry.token_id and isinstance(terms.access, TokenAccess | UniqueCodes):
        return "token_missing"
    if not entry.token_id:
        is_used = known.is_in_order(entry.merchant, entry.order_id, entry.promotion_id)
        return "order_used" if is_used else None
    if token is None or not token.is_issued:
        return "token_unknown"
    if token.merchant != entry.merchant:
        return "audience_mismatch"
    if token.terms_digest != entry.terms_digest:
        return "terms_mismatch"
    if entry.at_ms >= (token.expires_at_ms or 0):
        return "token_expired"
    if use_number is None:
        return "token_moved" if token.status == "moved" else "token_used"
    return None


def _reversed(tx: Tx, known: Reports, entry: Entry) -> None:
    before = known.get(entry.redemption_id)
    if before is None or before.merchant != entry.merchant:
        raise NotFoundError("there is no such redemption", field="data.entry.redemption_id")
    if before.promotion_id != entry.promotion_id or (before.token_id or "") != entry.token_id:
        raise ConflictError("the redemption is of another promotion", field="data.entry")
    left = before.amount_minor - before.reversed_minor
    if before.state not in ("redeemed", "disputed") or entry.amount_minor > left:
        raise ConflictError(
            "more is taken back than is left",
            code="reversed_beyond_redeemed",
            field="data.entry.amount_minor",
            left_minor=left if before.state == "redeemed" else 0,
        )
    report = before._replace(reversed_minor=before.reversed_minor + entry.amount_minor)
    if before.state == "disputed":
        known.put(report)
        return
    known.put(report._replace(state="reversed") if entry.is_complete else report)
    given_back = Amounts(int(entry.is_complete), entry.amount_minor)
    for part in (before.allotment_id, *known.shared(before.redemption_id)):
        known.parts.unsettle(part, given_back, before.redemption_id)
    tx.record(entry)
    token = known.token(entry.token_id)
    if token is not None:
        if entry.is_complete and known.status(token) == "redeemed":
            known.set_status(token, "issued")
        _tell_wallet(tx, REVERSED, token, before, entry, None)


def _tell_wallet(
    tx: Tx, type_: str, token: Used, report: Report, entry: Entry, receipt: str | None
) -> None:
    if token.wallet is None:
        return
    data = {
        "token_id": token.token_id,
        "promotion_id": entry.promotion_id,
        "terms_digest": entry.terms_digest,
        "merchant": entry.merchant,
        "order_id": entry.order_id,
        "redemption_id": entry.redemption_id,
        "use_number": report.use_number,
        "amount_minor": entry.amount_minor,
        "currency": entry.currency,
        "at": rfc3339(entry.at_ms),
    }
    if type_ == REDEEMED:
        data["receipt"] = receipt
    else:
        data["is_complete"] = entry.is_complete
    tx.send(token.wallet, type_, token.token_id, data)


def report_of(entry: Entry, state: str, dispute: str | None, use_number: int | None) -> Report:
    """The record of a redemption that was reported now."""
    return Report(
        redemption_id=entry.redemption_id,
        order_id=entry.order_id,
        merchant=entry.merchant,
        promotion_id=entry.promotion_id,
        terms_digest=entry.terms_digest,
        token_id=entry.token_id or None,
        use_number=use_number,
        code=None,
        allotment_id=entry.allotment_id,
        amount_minor=entry.amount_minor,
        reversed_minor=0,
        currency=entry.currency,
        state=state,
        dispute=dispute,
        at_ms=entry.at_ms,
    )


def _check_same(known: Report, entry: Entry) -> None:
    now = report_of(entry, known.state, known.dispute, known.use_number)
    for field in (
        "merchant", "promotion_id", "order_id", "token_id", "terms_digest", "amount_minor", "at_ms"
    ):  # fmt: skip
        if getattr(known, field) != getattr(now, field):
            raise ConflictError(
                f"this redemption was reported with another {field}",
                code=f"exists_with_different_{field}",
                field=f"data.entry.{field}",
            )


EVENT_HANDLERS = {"sconto.journal.reported.v1": Together(journal_reported, Reported)}
