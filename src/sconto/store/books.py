"""Do the books balance? Every rule of the ledger, looked at from outside, with the faults by name.

It reads one view of the datastore and changes nothing. What the constraints of the schema make
impossible is looked at all the same: a disk or a person may have changed it.

A budget is a promotion's, or a counter's of a limit that its merchants share.

1. `sums`          each account of a budget is the sum of the transfers into it less those out of it
2. `cap`           free, open, spent and written off sum to the cap, and none is below zero
3. `open`          open units are what is left of the open parts, and what reservations hold
4. `spent`         spent units are the redemptions that were settled, less what was reversed
5. `written_off`   what is left of parts that were written off is within that account
6. `left`          a part has left what it was granted, less what was redeemed and not reversed
7. `counter`       a limit's counter is the sum of the redemptions that it counts
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from sconto.ledger import Amounts
from sconto.ledger.budget import Account
from sconto.store.schema import (
    allotments,
    budgets,
    limit_counters,
    portions,
    redemption_counters,
    redemption_parts,
    redemptions,
    transfers,
)

_ACCOUNTS = (Account.FREE, Account.OPEN, Account.SPENT, Account.WRITTEN_OFF)
_NOTHING = Amounts(0, 0)


class Fault(NamedTuple):
    """One rule that does not hold, for one promotion, part or counter."""

    rule: str
    about: str
    #: What the datastore says, as `uses/minor units`.
    has: str
    #: What the rest of it says.
    should_have: str


class Checked(NamedTuple):
    """What was looked at, and what was wrong."""

    budgets: int
    allotments: int
    redemptions: int
    faults: list[Fault]


def check(connection: sa.Connection) -> Checked:
    """Look at all budgets, parts and counters of a datastore."""
    used = _used(connection)
    parts = [dict(row) for row in connection.execute(sa.select(allotments)).mappings()]
    _add_portions(connection, parts)
    caps = {
        (row["promotion_id"], row["counter"]): dict(row)
        for row in connection.execute(sa.select(budgets)).mappings()
    }
    faults = [
        *_budget_faults(connection, caps, parts, used),
        *_part_faults(connection, caps, parts, used),
        *_counter_faults(connection),
    ]
    return Checked(len(caps), len(parts), used.number, faults)


def _add_portions(connection: sa.Connection, parts: list[dict[str, Any]]) -> None:
    """What processes have taken of a part is left of it too."""
    by_id = {part["allotment_id"]: part for part in parts}
    for row in connection.execute(sa.select(portions)).mappings():
        for name in ("left_uses", "left_minor"):
            by_id[row["allotment_id"]][name] += row[name]


#: A budget: a promotion, and the counter of it or "" for its own.
_Key = tuple[str, str]


class _Used(NamedTuple):
    """Redemptions by budget and by part: settled ones net, reserved ones as they are."""

    number: int
    settled: dict[_Key, Amounts]
    reserved: dict[_Key, Amounts]
    of_part: dict[str, Amounts]


def _used(connection: sa.Connection) -> _Used:
    """A redemption is in its promotion's budget, and in those of the counters that it is in."""
    settled: dict[_Key, Amounts] = defaultdict(lambda: _NOTHING)
    reserved: dict[_Key, Amounts] = defaultdict(lambda: _NOTHING)
    of_part: dict[str, Amounts] = defaultdict(lambda: _NOTHING)
    net = redemptions.c.amount_minor - redemptions.c.reversed_minor
    whole = sa.select(
        redemptions.c.promotion_id,
        sa.literal("").label("counter"),
        redemptions.c.allotment_id,
        redemptions.c.state,
        sa.func.count().label("number"),
        sa.func.sum(net).label("minor"),
    )
    shared = (
        sa.select(
            redemptions.c.promotion_id,
            allotments.c.counter,
            redemption_parts.c.allotment_id,
            redemptions.c.state,
            sa.func.count().label("number"),
            sa.func.sum(net).label("minor"),
        )
        .join(redemption_parts, redemption_parts.c.redemption_id == redemptions.c.redemption_id)
        .join(allotments, allotments.c.allotment_id == redemption_parts.c.allotment_id)
    )
    total = 0
    is_used = redemptions.c.state.in_(("reserved", "redeemed", "reversed"))
    for query in (
        whole.group_by(redemptions.c.promotion_id, redemptions.c.allotment_id, redemptions.c.state),
        shared.group_by(
            redemptions.c.promotion_id,
            allotments.c.counter,
            redemption_parts.c.allotment_id,
            redemptions.c.state,
        ),
    ):
        for row in connection.execute(query.where(is_used)):
            total += 0 if row.counter else row.number
            amounts = Amounts(0 if row.state == "reversed" else row.number, int(row.minor))
            kind = reserved if row.state == "reserved" else settled
            key = (row.promotion_id, row.counter)
            kind[key] = _plus(kind[key], amounts)
            of_part[row.allotment_id] = _plus(of_part[row.allotment_id], amounts)
    return _Used(total, settled, reserved, of_part)


def _budget_faults(
    connection: sa.Connection,
    caps: dict[_Key, dict[str, Any]],
    parts: list[dict[str, Any]],
    used: _Used,
) -> Iterator[Fault]:
    moved = _moved(connection)
    left: dict[tuple[_Key, str], Amounts] = defaultdict(lambda: _NOTHING)
    for part in parts:
        place = _key(part), part["state"]
        left[place] = _plus(left[place], _amounts(part, "left"))
    for key, row in caps.items():
        name = " ".join(key).rstrip()
        accounts = {account: _amounts(row, str(account)) for account in _ACCOUNTS}
        for account, has in accounts.items():
            summed = moved[key, str(account)]
            if has != summed:
                yield _fault("sums", f"{name} {account}", has, summed)
        cap, whole = _amounts(row, "cap"), _NOTHING
        for has in accounts.values():
            whole = _plus(whole, has)
        if whole != cap or any(min(has) < 0 for has in accounts.values()):
            yield _fault("cap", name, whole, cap)
        held = _plus(left[key, "open"], used.reserved[key])
        if accounts[Account.OPEN] != held:
            yield _fault("open", name, accounts[Account.OPEN], held)
        if accounts[Account.SPENT] != used.settled[key]:
            yield _fault("spent", name, accounts[Account.SPENT], used.settled[key])
        off = left[key, "written_off"]
        if not off.fits(accounts[Account.WRITTEN_OFF]):
            yield _fault("written_off", name, accounts[Account.WRITTEN_OFF], off)


def _moved(connection: sa.Connection) -> dict[tuple[_Key, str], Amounts]:
    """Transfers into each account of each budget less those out of it."""
    sums: dict[tuple[_Key, str], Amounts] = defaultdict(lambda: _NOTHING)
    for side, sign in ((transfers.c.debit, -1), (transfers.c.credit, 1)):
        query = sa.select(
            transfers.c.promotion_id,
            transfers.c.counter,
            side,
            sa.func.sum(transfers.c.uses),
            sa.func.sum(transfers.c.minor),
        ).group_by(transfers.c.promotion_id, transfers.c.counter, side)
        for promotion_id, counter, account, uses, minor in connection.execute(query):
            key = (promotion_id, counter), account.partition(":")[0]
            sums[key] = _plus(sums[key], Amounts(sign * int(uses), sign * int(minor)))
    return sums


def _part_faults(
    connection: sa.Connection,
    caps: dict[_Key, dict[str, Any]],
    parts: list[dict[str, Any]],
    used: _Used,
) -> Iterator[Fault]:
    """At whoever granted it, a closed part has nothing left; at its holder, what it gave up."""
    lost = _lost(connection)
    for part in parts:
        granted, left = _amounts(part, "granted"), _amounts(part, "left")
        spent = _plus(used.of_part[part["allotment_id"]], lost[part["allotment_id"]])
        rest = Amounts(granted.uses - spent.uses, granted.minor - spent.minor)
        is_granted_here = _key(part) in caps
        if part["state"] == "closed":
            # What was reversed after it was closed did not come back to it.
            holds = left == _NOTHING if is_granted_here else left.fits(rest)
        else:
            holds = left == rest
        if not holds:
            should = _NOTHING if part["state"] == "closed" and is_granted_here else rest
            yield _fault("left", part["allotment_id"], left, should)


def _lost(connection: sa.Connection) -> dict[str, Amounts]:
    """What an open part of this server's own budget lost when that was restored.

    A part that was presented is open with all that was not settled of it.
    """
    presented = sa.select(transfers.c.reference).where(transfers.c.reason == "present")
    query = (
        sa.select(
            transfers.c.reference, sa.func.sum(transfers.c.uses), sa.func.sum(transfers.c.minor)
        )
        .join(allotments, allotments.c.allotment_id == transfers.c.reference)
        .where(transfers.c.reason == "write_off", allotments.c.state == "open")
        .where(transfers.c.reference.not_in(presented))
        .group_by(transfers.c.reference)
    )
    found: dict[str, Amounts] = defaultdict(lambda: _NOTHING)
    for reference, uses, minor in connection.execute(query):
        found[reference] = Amounts(int(uses), int(minor))
    return found


def _counter_faults(connection: sa.Connection) -> Iterator[Fault]:
    net = redemptions.c.amount_minor - redemptions.c.reversed_minor
    query = (
        sa.select(
            redemption_counters.c.promotion_id,
            redemption_counters.c.counter,
            sa.func.count(),
            sa.func.sum(net),
        )
        .join(redemptions, redemptions.c.redemption_id == redemption_counters.c.redemption_id)
        .group_by(redemption_counters.c.promotion_id, redemption_counters.c.counter)
    )
    counted = {
        (promotion_id, counter): Amounts(number, int(minor))
        for promotion_id, counter, number, minor in connection.execute(query)
    }
    for row in connection.execute(sa.select(limit_counters)).mappings():
        key = row["promotion_id"], row["counter"]
        has = Amounts(row["uses"], row["minor"])
        if has != counted.get(key, _NOTHING):
            yield _fault("counter", f"{key[0]} {key[1]}", has, counted.get(key, _NOTHING))


def _key(part: dict[str, Any]) -> _Key:
    return part["promotion_id"], part["counter"]


def _amounts(row: dict[str, Any], name: str) -> Amounts:
    return Amounts(row[f"{name}_uses"], row[f"{name}_minor"])


def _plus(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(one.uses + other.uses, one.minor + other.minor)


def _fault(rule: str, about: str, has: Amounts, should_have: Amounts) -> Fault:
    return Fault(rule, about, f"{has.uses}/{has.minor}", f"{should_have.uses}/{should_have.minor}")
