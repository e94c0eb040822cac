"""Reports come in: what happened to the hub's promotions at a merchant's checkouts.

A report is an entry of the merchant's journal. What the hub accepts of it goes into its own journal
and so into its statistics; what it will not pay is kept with the reason and counted nowhere.

1. A report that is not one (another merchant's, unknown terms, impossible figures) is parked.
2. The same redemption again changes nothing; the same id with other content is parked.
3. A redemption that the hub did not promise is *disputed*: an unknown token, another merchant's,
   one for other terms, an expired one, a use that was used, more than the merchant was granted,
   or not from a part of each limit that it counts in.
4. Everything else is settled from the merchant's parts, and the token's wallet is told.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sconto.base.clock import rfc3339
from sconto.base.documents import from_builtins
from sconto.base.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from sconto.base.fields import Digest, Identifier
from sconto.ledger import Amounts, Entry
from sconto.servers.endpoint import INSTANT_MAX_MS
from sconto.servers.hub import counters
from sconto.servers.hub.allotments import Amount, check_merchant
from sconto.servers.hub.catalogue import day_in, uses_of_token
from sconto.store import ledger, limits, reports, tokens
from sconto.store.reports import Report
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.terms import Terms
from sconto.terms.model import TokenAccess, UniqueCodes

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

REDEEMED = "sconto.token.redeemed.v1"
REVERSED = "sconto.token.reversed.v1"

_Id26 = Annotated[str, Meta(pattern=r"^[0-9A-Z]{26}$(?!\n)")]
_Id100 = Annotated[str, Meta(pattern=r"^[!-~]{1,100}$(?!\n)")]
_Id160 = Annotated[str, Meta(pattern=r"^[!-~]{1,160}$(?!\n)")]


class ReportedEntry(Struct, kw_only=True, omit_defaults=True):
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


class Reported(Struct, kw_only=True):
    """Data of `sconto.journal.reported.v1`."""

    entry: ReportedEntry
    #: The merchant's signed receipt of a redemption, for the wallet.
    receipt: Annotated[str, Meta(max_length=65_536)] | None = None
    #: Of a redemption: the parts of limits that merchants share, from which it is taken too.
    parts: Annotated[tuple[_Id26, ...], Meta(max_length=64)] = ()


def journal_reported(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """Apply one entry of a merchant's journal."""
    check_merchant(hub, source)
    reported = from_builtins(data, Reported, what="data", field="data")
    entry = msgspec.convert(msgspec.to_builtins(reported.entry), Entry)
    if entry.merchant != source:
        raise ForbiddenError("a merchant reports its own checkouts", field="data.entry.merchant")
    terms = hub.catalogue.terms(tx.connection, entry.terms_digest)
    if terms is None or terms.promotion_id != entry.promotion_id:
        raise NotFoundError("these terms are not of this hub", field="data.entry.terms_digest")
    if entry.day != day_in(terms, entry.at_ms):
        raise InvalidInputError(
            f"at_ms is on {day_in(terms, entry.at_ms)} where the promotion is",
            field="data.entry.day",
        )
    if entry.kind == "redeemed":
        _redeemed(tx, entry, terms, reported)
    elif entry.kind == "reversed":
        _reversed(hub, tx, entry)
    else:
        tx.record(entry)


def _redeemed(tx: Tx, entry: Entry, terms: Terms, reported: Reported) -> None:
    for name in ("redemption_id", "order_id", "allotment_id"):
        if not getattr(entry, name):
            raise InvalidInputError(f"a redemption has a {name}", field=f"data.entry.{name}")
    if len(set(reported.parts)) < len(reported.parts):
        raise InvalidInputError("a part is named once", field="data.parts")
    if entry.currency != terms.currency:
        raise InvalidInputError(f"the terms are in {terms.currency}", field="data.entry.currency")
    known = reports.get(tx.connection, entry.redemption_id)
    if known is not None:
        _check_same(known, entry)
        return
    report = _report(entry)
    token, report, why = _judge(tx, entry, terms, report, reported.parts)
    if reported.parts:
        limits.take_parts(tx, entry.redemption_id, reported.parts)
    if why is not None:
        reports.add(tx, report._replace(state="disputed", dispute=why, use_number=None))
        return
    reports.add(tx, report)
    _accept(tx, entry, terms, token, report, reported.receipt)


def judge_again(hub: "Hub", tx: Tx, allotment_id: str) -> None:
    """An allotment is known after all: its redemptions are judged anew."""
    for known in reports.disputed(tx.connection, allotment_id, "allotment_unknown"):
        terms = hub.catalogue.promised(tx.connection, known.terms_digest)
        entry = Entry(
            kind="redeemed",
            promotion_id=known.promotion_id,
            merchant=known.merchant,
            at_ms=known.at_ms,
            day=day_in(terms, known.at_ms),
            terms_digest=known.terms_digest,
            token_id=known.token_id or "",
            order_id=known.order_id,
            redemption_id=known.redemption_id,
            allotment_id=known.allotment_id,
            amount_minor=known.amount_minor,
            currency=known.currency,
            is_direct=True,
        )
        parts = limits.parts_of(tx.connection, known.redemption_id)
        token, report, why = _judge(tx, entry, terms, known, parts)
        if why is None:
            reports.settle(tx, report)
            _accept(tx, entry, terms, token, report, None)


def _judge(
    tx: Tx, entry: Entry, terms: Terms, report: Report, parts: Sequence[str]
) -> tuple[Token | None, Report, str | None]:
    """Settle a redemption, or say why it is not paid; with its token and the use of it."""
    token = tokens.get(tx.connection, entry.token_id) if entry.token_id else None
    if token is not None:
        taken = reports.uses_taken(tx.connection, token.token_id)
        free = (n for n in range(1, uses_of_token(token, terms) + 1) if n not in taken)
        report = report._replace(use_number=next(free, None))
    why = _dispute(tx, entry, terms, token, report) or counters.dispute(tx, entry, terms, parts)
    spent = Amounts(1, entry.amount_minor)
    if why is None and not ledger.settle(tx, entry.allotment_id, spent, entry.redemption_id):
        why = "beyond_grant"
    if why is None:
        counters.settle(tx, entry, parts)
    return token, report, why


def _accept(
    tx: Tx, entry: Entry, terms: Terms, token: Token | None, report: Report, receipt: str | None
) -> None:
    tx.record(entry)
    if token is not None:
        taken = reports.uses_taken(tx.connection, token.token_id)
        if token.status == "issued" and len(taken) >= uses_of_token(token, terms):
            tokens.set_status(tx, token.token_id, "redeemed")
        _tell_wallet(tx, REDEEMED, token, report, entry, receipt)


def _dispute(tx: Tx, entry: Entry, terms: Terms, token: Token | None, report: Report) -> str | None:
    """Why a redemption will not be paid; None where nothing speaks against it but the budget."""
    allotment = ledger.get(tx.connection, entry.allotment_id)
    if allotment is None or (allotment.holder, allotment.promotion_id, allotment.counter) != (
        entry.merchant,
        entry.promotion_id,
        "",
    ):
        return "allotment_unknown"
    if isinstance(terms.access, TokenAccess | UniqueCodes) and not entry.token_id:
        return "token_missing"
    if not entry.token_id:
        is_used = reports.is_in_order(
            tx.connection, entry.merchant, entry.order_id, entry.promotion_id
        )
        return "order_used" if is_used else None
    if token is None or token.jws is None:
        return "token_unknown"
    if token.merchant != entry.merchant:
        return "audience_mismatch"
    if token.terms_digest != entry.terms_digest:
        return "terms_mismatch"
    if entry.at_ms >= (token.expires_at_ms or 0):
        return "token_expired"
    if report.use_number is None:
        return "token_moved" if token.status == "moved" else "token_used"
    return None


def _reversed(hub: "Hub", tx: Tx, entry: Entry) -> None:
    known = reports.get(tx.connection, entry.redemption_id)
    if known is None or known.merchant != entry.merchant:
        raise NotFoundError("there is no such redemption", field="data.entry.redemption_id")
    if known.promotion_id != entry.promotion_id or (known.token_id or "") != entry.token_id:
        raise ConflictError("the redemption is of another promotion", field="data.entry")
    left = known.amount_minor - known.reversed_minor
    if known.state not in ("redeemed", "disputed") or entry.amount_minor > left:
        raise ConflictError(
            "more is taken back than is left",
            code="reversed_beyond_redeemed",
            field="data.entry.amount_minor",
            left_minor=left if known.state == "redeemed" else 0,
        )
    if known.state == "disputed":
        reports.reverse(tx, known, entry.amount_minor, "disputed")
        return
    given_back = Amounts(int(entry.is_complete), entry.amount_minor)
    reports.reverse(tx, known, entry.amount_minor, "reversed" if entry.is_complete else "redeemed")
    epoch = hub.base.home.incarnation
    ledger.unsettle(tx, known.allotment_id, given_back, known.redemption_id, epoch)
    counters.unsettle(tx, known.redemption_id, given_back, epoch)
    tx.record(entry)
    token = tokens.get(tx.connection, known.token_id) if known.token_id else None
    if token is not None:
        if entry.is_complete and token.status == "redeemed":
            tokens.set_status(tx, token.token_id, "issued")
        _tell_wallet(tx, REVERSED, token, known, entry, None)


def _tell_wallet(
    tx: Tx, type_: str, token: Token, report: Report, entry: Entry, receipt: str | None
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


def _report(entry: Entry) -> Report:
    return Report(
        redemption_id=entry.redemption_id,
        order_id=entry.order_id,
        merchant=entry.merchant,
        promotion_id=entry.promotion_id,
        terms_digest=entry.terms_digest,
        token_id=entry.token_id or None,
        use_number=None,
        code=None,
        allotment_id=entry.allotment_id,
        amount_minor=entry.amount_minor,
        reversed_minor=0,
        currency=entry.currency,
        state="redeemed",
        dispute=None,
        at_ms=entry.at_ms,
    )


def _check_same(known: Report, entry: Entry) -> None:
    before = _report(entry)
    for field in (
        "merchant", "promotion_id", "order_id", "token_id", "terms_digest", "amount_minor", "at_ms"
    ):  # fmt: skip
        if getattr(known, field) != getattr(before, field):
            raise ConflictError(
                f"this redemption was reported with another {field}",
                code=f"exists_with_different_{field}",
                field=f"data.entry.{field}",
            )


EVENT_HANDLERS = {"sconto.journal.reported.v1": journal_reported}
