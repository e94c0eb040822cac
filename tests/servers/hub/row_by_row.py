"""Reports applied one by one, each by questions and changes of its own: the slow twin, the oracle.

It is how a hub did it before reports came by the thousand. `test_reports_together.py` compares.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from sconto.base.clock import rfc3339
from sconto.base.documents import from_builtins
from sconto.base.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    invariant,
)
from sconto.ledger import Amounts, Entry
from sconto.ledger.budget import Account
from sconto.servers.hub.allotments import check_merchant
from sconto.servers.hub.catalogue import day_in, uses_of_token
from sconto.servers.hub.reports import REDEEMED, REVERSED, Reported
from sconto.store import ledger, limits, tokens
from sconto.store.ledger import Allotment
from sconto.store.ledger.budgets import move
from sconto.store.ledger.parts import take
from sconto.store.reports import Report
from sconto.store.schema import redemptions
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.terms import Terms
from sconto.terms.counting import are_counters_of, shared
from sconto.terms.model import TokenAccess, UniqueCodes


def journal_reported(hub: Any, tx: Tx, source: str, data: dict[str, Any]) -> None:
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
    known = _get(tx.connection, entry.redemption_id)
    if known is not None:
        _check_same(known, entry)
        return
    report = _report(entry)
    token, report, why = _judge(tx, entry, terms, report, reported.parts)
    if reported.parts:
        limits.take_parts(tx, entry.redemption_id, reported.parts)
    if why is not None:
        _add(tx, report._replace(state="disputed", dispute=why, use_number=None))
        return
    _add(tx, report)
    _accept(tx, entry, terms, token, report, reported.receipt)


def _judge(
    tx: Tx, entry: Entry, terms: Terms, report: Report, parts: Sequence[str]
) -> tuple[Token | None, Report, str | None]:
    """Settle a redemption, or say why it is not paid; with its token and the use of it."""
    token = tokens.get(tx.connection, entry.token_id) if entry.token_id else None
    if token is not None:
        taken = _uses_taken(tx.connection, token.token_id)
        free = (n for n in range(1, uses_of_token(token, terms) + 1) if n not in taken)
        report = report._replace(use_number=next(free, None))
    why = _dispute(tx, entry, terms, token, report) or _counters_dispute(tx, entry, terms, parts)
    spent = Amounts(1, entry.amount_minor)
    if why is None and not _settle(tx, entry.allotment_id, spent, entry.redemption_id):
        why = "beyond_grant"
    if why is None:
        _counters_settle(tx, entry, parts)
    return token, report, why


def _settle(tx: Tx, allotment_id: str, amounts: Amounts, reference: str) -> bool:
    """A holder spent from its part: open to spent. False when it claims more than it has left."""
    part = ledger.get(tx.connection, allotment_id)
    if part is None or part.state == "closed":
        return False
    debit = Account.OPEN if part.state == "open" else Account.WRITTEN_OFF
    if take(tx, allotment_id, amounts, state=part.state) is None:
        return False
    move(tx, part, debit, Account.SPENT, amounts, "settle", reference)
    return True


def _accept(
    tx: Tx, entry: Entry, terms: Terms, token: Token | None, report: Report, receipt: str | None
) -> None:
    tx.record(entry)
    if token is not None:
        taken = _uses_taken(tx.connection, token.token_id)
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
        is_used = _is_in_order(tx.connection, entry.merchant, entry.order_id, entry.promotion_id)
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


def _reversed(hub: Any, tx: Tx, entry: Entry) -> None:
    known = _get(tx.connection, entry.redemption_id)
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
        _reverse(tx, known, entry.amount_minor, "disputed")
        return
    given_back = Amounts(int(entry.is_complete), entry.amount_minor)
    _reverse(tx, known, entry.amount_minor, "reversed" if entry.is_complete else "redeemed")
    epoch = hub.base.home.incarnation
    ledger.unsettle(tx, known.allotment_id, given_back, known.redemption_id, epoch)
    _counters_unsettle(tx, known.redemption_id, given_back, epoch)
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


def _counters_dispute(
    tx: Tx, entry: Entry, terms: Terms, allotment_ids: Sequence[str]
) -> str | None:
    """Why a redemption is not paid from these parts of counters; None: `settle` will do it."""
    if not allotment_ids and not shared(terms):
        return None
    parts = [ledger.get(tx.connection, one) for one in allotment_ids]
    known = [part for part in parts if part is not None and _is_held(part, entry)]
    if len(known) < len(parts):
        return "allotment_unknown"
    if not are_counters_of(terms, entry.at_ms, [part.counter for part in known]):
        return "limits_mismatch"
    spent = Amounts(1, entry.amount_minor)
    is_there = all(part.state != "closed" and spent.fits(part.left) for part in known)
    return None if is_there else "beyond_grant"


def _counters_settle(tx: Tx, entry: Entry, allotment_ids: Sequence[str]) -> None:
    """A redemption is paid: from these parts too, of which `dispute` has said nothing."""
    for one in allotment_ids:
        spent = Amounts(1, entry.amount_minor)
        is_settled = _settle(tx, one, spent, entry.redemption_id)
        invariant(is_settled, "a part has what it showed in the same transaction")


def _counters_unsettle(tx: Tx, redemption_id: str, amounts: Amounts, epoch: str) -> None:
    """A redemption was reversed: units go back to the parts of counters that it was paid from."""
    for one in limits.parts_of(tx.connection, redemption_id):
        ledger.unsettle(tx, one, amounts, redemption_id, epoch)


def _is_held(part: Allotment, entry: Entry) -> bool:
    return (part.holder, part.promotion_id) == (entry.merchant, entry.promotion_id)


_REPORT = sa.select(*(redemptions.c[name] for name in Report._fields))


def _get(connection: sa.Connection, redemption_id: str) -> Report | None:
    """One redemption."""
    row = connection.execute(_REPORT.where(redemptions.c.redemption_id == redemption_id)).first()
    return None if row is None else Report(*row)


def _add(tx: Tx, report: Report) -> None:
    """Keep a redemption that was not known."""
    tx.write(sa.insert(redemptions).values(**report._asdict()))


def _uses_taken(connection: sa.Connection, token_id: str) -> set[int]:
    """Numbers of the uses of a token that are redeemed and not reversed."""
    query = sa.select(redemptions.c.use_number).where(
        redemptions.c.token_id == token_id, redemptions.c.state == "redeemed"
    )
    return set(connection.execute(query).scalars())


def _is_in_order(
    connection: sa.Connection, merchant: str, order_id: str, promotion_id: str
) -> bool:
    """Whether a promotion without tokens is redeemed in an order already."""
    query = sa.select(redemptions.c.redemption_id).where(
        redemptions.c.merchant == merchant,
        redemptions.c.order_id == order_id,
        redemptions.c.promotion_id == promotion_id,
        redemptions.c.token_id.is_(None),
        redemptions.c.state == "redeemed",
    )
    return connection.execute(query).first() is not None


def _reverse(tx: Tx, report: Report, amount_minor: int, state: str) -> None:
    """Take back a part of a redemption, or what is left of it."""
    result = tx.write(
        sa.update(redemptions)
        .where(
            redemptions.c.redemption_id == report.redemption_id,
            redemptions.c.state == report.state,
            redemptions.c.reversed_minor == report.reversed_minor,
        )
        .values(reversed_minor=report.reversed_minor + amount_minor, state=state)
    )
    invariant(result.rowcount == 1, "a redemption is in the state that it showed")
