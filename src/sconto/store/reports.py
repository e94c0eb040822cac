"""Redemptions at a hub, as their merchants reported them: settled, reversed or in dispute.

`Reports` is what a run of reports is about: read at once, changed in memory as each report is
applied, and written at once.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import Entry
from sconto.store import tokens as token_store
from sconto.store.ledger import Settling
from sconto.store.prepared import NewRows, Prepared, Row, one_of
from sconto.store.schema import redemption_parts, redemptions, tokens
from sconto.store.writer import Tx


class Report(NamedTuple):
    """One reported redemption. `dispute` says why it will not be paid, where it will not."""

    redemption_id: str
    order_id: str
    merchant: str
    promotion_id: str
    terms_digest: str
    token_id: str | None
    use_number: int | None
    code: str | None
    allotment_id: str
    amount_minor: int
    reversed_minor: int
    currency: str
    state: str
    dispute: str | None
    at_ms: int


class Used(NamedTuple):
    """What a report needs to know of a token; None: not known yet, or not kept."""

    token_id: str
    merchant: str
    terms_digest: str
    wallet: str | None
    status: str
    is_issued: bool
    expires_at_ms: int | None
    #: How often it can be used, where a move has made that differ from what the terms say.
    uses: int | None


class Reports:
    """The redemptions, tokens and parts that entries of a merchant's journal are about.

    `epoch` is the hub's own, as `Settling` has it.
    """

    def __init__(
        self, tx: Tx, entries: Sequence[Entry], epoch: str, allotment_ids: Iterable[str] = ()
    ) -> None:
        self._tx = tx
        connection = tx.connection
        ids: dict[str, None] = {}
        parts: dict[str, None] = dict.fromkeys(allotment_ids)
        token_ids: dict[str, None] = {}
        orders: dict[str, None] = {}
        for entry in entries:
            ids[entry.redemption_id] = parts[entry.allotment_id] = None
            if entry.token_id:
                token_ids[entry.token_id] = None
            else:
                orders[entry.order_id] = None
        self._before = {row[0]: Report(*row) for row in _SOME.rows(connection, ids=[*ids])}
        self._now = dict(self._before)
        parts |= dict.fromkeys(known.allotment_id for known in self._before.values())
        #: Parts of shared counters by redemption.
        self._shared: dict[str, tuple[str, ...]] = {}
        for redemption_id, allotment_id in _SHARED.rows(connection, ids=[*self._before]):
            parts[allotment_id] = None
            self._shared[redemption_id] = (*self._shared.get(redemption_id, ()), allotment_id)
        self._new_shared: list[Row] = []
        self.parts = Settling(tx, [*parts], epoch)
        self._tokens: dict[str, Used] = {}
        self._uses: dict[str, set[int]] = {}
        self._statuses: dict[str, str] = {}
        if token_ids:
            for token in map(Used._make, _TOKENS.rows(connection, ids=[*token_ids])):
                self._tokens[token.token_id] = token
                self._uses[token.token_id] = set()
            for token_id, use_number in _USES.rows(connection, ids=[*token_ids]):
                self._uses[token_id].add(use_number)
        self._in_orders: set[Row] = set()
        if orders:
            self._in_orders |= set(_IN_ORDERS.rows(connection, ids=[*orders]))

    def get(self, redemption_id: str) -> Report | None:
        """One redemption, as it is now."""
        return self._now.get(redemption_id)

    def put(self, report: Report) -> None:
        """Keep a redemption that was not known, or what has become of one."""
        before = self._now.get(report.redemption_id)
        self._now[report.redemption_id] = report
        if before is not None and before.state == "redeemed":
            self._mark(before, is_used=False)
        if report.state == "redeemed":
            self._mark(report, is_used=True)

    def _mark(self, report: Report, *, is_used: bool) -> None:
        """The use of its token, or its place in the order, is taken or free."""
        if report.token_id is None:
            place = (report.merchant, report.order_id, report.promotion_id)
            (self._in_orders.add if is_used else self._in_orders.discard)(place)
        elif report.use_number is not None:
            uses = self._uses[report.token_id]
            (uses.add if is_used else uses.discard)(report.use_number)

    def shared(self, redemption_id: str) -> tuple[str, ...]:
        """The parts of shared counters that a redemption is taken from as well."""
        return self._shared.get(redemption_id, ())

    def share(self, redemption_id: str, allotment_ids: Sequence[str]) -> None:
        """Keep which those of a new redemption are."""
        self._shared[redemption_id] = tuple(sorted(allotment_ids))
        self._new_shared += [(redemption_id, one) for one in allotment_ids]

    def token(self, token_id: str) -> Used | None:
        """One token, as it was before; `status` says how it is now."""
        return self._tokens.get(token_id)

    def status(self, token: Used) -> str:
        """The state that a token is in now."""
        return self._statuses.get(token.token_id) or token.status

    def set_status(self, token: Used, status: str) -> None:
        """Move a token to another state."""
        self._statuses[token.token_id] = status

    def uses_taken(self, token_id: str) -> set[int]:
        """Numbers of the uses of a token that are redeemed and not reversed."""
        return self._uses[token_id]

    def is_in_order(self, merchant: str, order_id: str, promotion_id: str) -> bool:
        """Whether a promotion without tokens is redeemed in an order already."""
        return (merchant, order_id, promotion_id) in self._in_orders

    def write(self) -> None:
        """Write what has changed: what is undone first, since it makes room for what is new."""
        connection = self._tx.changing()
        changed: list[dict[str, Any]] = []
        added: list[Row] = []
        for redemption_id, report in self._now.items():
            before = self._before.get(redemption_id)
            if before is None:
                added.append(report)
            elif before is not report:
                changed.append(
                    {
                        "id": redemption_id,
                        "was": before.state,
                        "had": before.reversed_minor,
                        "state": report.state,
                        "reversed_minor": report.reversed_minor,
                        "dispute": report.dispute,
                        "use_number": report.use_number,
                    }
                )
        changed.sort(key=lambda one: one["state"] == "redeemed")
        if changed:
            count = _CHANGE.run_many(connection, changed)
            invariant(count == len(changed), "a redemption is in the state that it showed")
        if added:
            _NEW.add(connection, added)
        if self._new_shared:
            _NEW_SHARED.add(connection, self._new_shared)
        for status in sorted(set(self._statuses.values())):
            ids = [token_id for token_id, now in self._statuses.items() if now == status]
            token_store.set_statuses(self._tx, ids, status)
        self.parts.write()


def get(connection: sa.Connection, redemption_id: str) -> Report | None:
    """One redemption."""
    row = _SOME.first(connection, ids=[redemption_id])
    return None if row is None else Report(*row)


def uses_taken(connection: sa.Connection, token_id: str) -> set[int]:
    """Numbers of the uses of a token that are redeemed and not reversed."""
    return {use_number for _, use_number in _USES.rows(connection, ids=[token_id])}


def disputed(connection: sa.Connection, allotment_id: str, dispute: str) -> list[Report]:
    """Disputed redemptions from an allotment, of which nothing was taken back."""
    of_part = sa.select(redemption_parts.c.redemption_id).where(
        redemption_parts.c.allotment_id == allotment_id
    )
    query = _REPORT.where(
        sa.or_(
            redemptions.c.allotment_id == allotment_id, redemptions.c.redemption_id.in_(of_part)
        ),
        redemptions.c.state == "disputed",
        redemptions.c.dispute == dispute,
        redemptions.c.reversed_minor == 0,
    ).order_by(redemptions.c.at_ms, redemptions.c.redemption_id)
    return [Report(*row) for row in connection.execute(query)]


def uses_at(connection: sa.Connection, merchant: str, now_ms: int) -> dict[str, int]:
    """How many uses of each token that is not over yet were redeemed at a merchant."""
    query = (
        sa.select(redemptions.c.token_id, sa.func.count())
        .join(tokens, tokens.c.token_id == redemptions.c.token_id)
        .where(
            redemptions.c.merchant == merchant,
            redemptions.c.state == "redeemed",
            tokens.c.expires_at_ms > now_ms,
        )
        .group_by(redemptions.c.token_id)
        .order_by(redemptions.c.token_id)
    )
    return {str(token_id): int(uses) for token_id, uses in connection.execute(query)}


_REPORT = sa.select(*(redemptions.c[name] for name in Report._fields))
_SOME = Prepared(_REPORT.where(one_of(redemptions.c.redemption_id, "ids")))
# In the words of the unique index on them, or SQLite does not find it. A hub has no reservations.
_USES = Prepared(
    sa.select(redemptions.c.token_id, redemptions.c.use_number).where(
        one_of(redemptions.c.token_id, "ids"),
        sa.text("token_id IS NOT NULL AND state IN ('reserved', 'redeemed')"),
    )
)
_IN_ORDERS = Prepared(
    sa.select(redemptions.c.merchant, redemptions.c.order_id, redemptions.c.promotion_id).where(
        one_of(redemptions.c.order_id, "ids"),
        redemptions.c.token_id.is_(None),
        redemptions.c.state == "redeemed",
    )
)
_TOKENS = Prepared(
    sa.select(
        *(
            tokens.c.jws.is_not(None) if name == "is_issued" else tokens.c[name]
            for name in Used._fields
        )
    ).where(one_of(tokens.c.token_id, "ids"))
)
_NEW = NewRows(redemptions, *Report._fields)
_SHARED = Prepared(
    sa.select(redemption_parts.c.redemption_id, redemption_parts.c.allotment_id)
    .where(one_of(redemption_parts.c.redemption_id, "ids"))
    .order_by(redemption_parts.c.allotment_id)
)
_NEW_SHARED = NewRows(redemption_parts, "redemption_id", "allotment_id")
_CHANGE = Prepared(
    sa.update(redemptions)
    .where(
        redemptions.c.redemption_id == sa.bindparam("id"),
        redemptions.c.state == sa.bindparam("was"),
        redemptions.c.reversed_minor == sa.bindparam("had"),
    )
    .values(
        {name: sa.bindparam(name) for name in ("state", "reversed_minor", "dispute", "use_number")}
    )
)
