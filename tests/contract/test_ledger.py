"""Budgets and allotments, as a table: one row a request, with what it must answer.

    verb       what                         -> answer

Amounts are `uses/minor units`. After each row the books are checked: cap = free + open + spent +
written off in both dimensions, the double entries sum to the same balances, and what is open is
what is left of the open parts. The rows of one case run one after the other on one budget.

    open A                                  a budget with the cap A
    top_up A                                it grows
    grant ID HOLDER A of N                  the holder, one of N, needs at least A -> its part
    extend ID A                             more of what is free for an open part
    settle ID A                             the holder reports that it spent -> yes | no
    unsettle ID A                           and that it took it back
    reclaim ID [spent A]                    the holder has closed its part -> what became free
    write_off ID                            the holder is silent -> what was left
    … in EPOCH                              in another epoch than the first
    balance                                 -> free open spent written off
    part ID                                 -> state left granted

At the spender, on a part `accept`ed from elsewhere:

    accept ID A                             -> yes | no
    spend ID A                              -> what is left | invariant
    give_back ID A                          -> yes | no
    close ID                                -> what was left
    available                               -> ids, oldest first
"""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sconto.base.errors import InvariantError
from sconto.ledger import Amounts, Refused
from sconto.store import Store, ledger
from sconto.store.schema import budgets, transfers
from sconto.store.writer import Tx

HERE = "https://shop.example"

CASES = {
    "a budget from its first unit to its last": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 2               -> 2/250
        balance                             -> 8/750 2/250 0/0 0/0
        settle a 1/100                      -> yes
        settle a 1/100                      -> yes
        balance                             -> 8/750 0/50 2/200 0/0
        settle a 1/0                        -> no
        settle a 0/51                       -> no
        settle a 0/50                       -> yes
        part a                              -> open 0/0 2/250
        balance                             -> 8/750 0/0 2/250 0/0
    """,
    "grants shrink as what is free shrinks, and the last units go out as needed": """
        open 8/800                          -> ok
        grant a shop 1/100 of 2             -> 2/200
        grant b other 1/100 of 2            -> 1/150
        grant c shop 1/100 of 2             -> 1/112
        grant d shop 4/100 of 2             -> 4/100
        grant e shop 1/0 of 2               -> budget_exhausted 0/238
        grant f shop 0/238 of 2             -> 0/238
        balance                             -> 0/0 8/800 0/0 0/0
    """,
    "either dimension can be the one that is used up": """
        open 100/99                         -> ok
        grant a shop 1/100 of 1             -> budget_exhausted 100/99
        grant a shop 101/1 of 1             -> budget_exhausted 100/99
        grant a shop 100/99 of 1            -> 100/99
        grant b shop 0/0 of 1               -> 0/0
        balance                             -> 0/0 100/99 0/0 0/0
    """,
    "a budget of nothing": """
        open 0/0                            -> ok
        grant a shop 1/1 of 1               -> budget_exhausted 0/0
        top_up 1/1                          -> ok
        grant a shop 1/1 of 1               -> 1/1
    """,
    "no budget at all is a used-up one": """
        grant a shop 1/1 of 1               -> budget_exhausted 0/0
        top_up 1/1                          -> invariant
    """,
    "a budget is opened once, and a part's id is given once": """
        open 10/10                          -> ok
        open 10/10                          -> constraint
        grant a shop 1/1 of 1               -> 5/5
        grant a shop 1/1 of 1               -> constraint
        balance                             -> 5/5 5/5 0/0 0/0
    """,
    "a part that is closed gives back what is left of it, once": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1               -> 5/500
        settle a 2/300                      -> yes
        reclaim a                           -> 3/200
        reclaim a                           -> 0/0
        write_off a                         -> 0/0
        reclaim nobody                      -> 0/0
        part a                              -> closed 0/0 5/500
        balance                             -> 8/700 0/0 2/300 0/0
        settle a 1/1                        -> no
        extend a 1/1                        -> invariant
        balance                             -> 8/700 0/0 2/300 0/0
    """,
    "a part that is written off is nobody's, and never comes back": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1               -> 5/500
        settle a 1/100                      -> yes
        write_off a                         -> 4/400
        reclaim a                           -> 0/0
        write_off a                         -> 0/0
        extend a 1/1                        -> invariant
        balance                             -> 5/500 0/0 1/100 4/400
        part a                              -> written_off 4/400 5/500
    """,
    "what a silent holder spent is honoured from what was written off": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1               -> 5/500
        write_off a                         -> 5/500
        settle a 1/100                      -> yes
        settle a 4/401                      -> no
        settle a 4/400                      -> yes
        settle a 1/0                        -> no
        balance                             -> 5/500 0/0 5/500 0/0
        unsettle a 1/100                    -> ok
        balance                             -> 5/500 0/0 4/400 1/100
        part a                              -> written_off 1/100 5/500
        settle a 1/100                      -> yes
        unsettle a 6/0                      -> constraint
        balance                             -> 5/500 0/0 5/500 0/0
    """,
    "what a holder says that it spent and did not report is written off": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1               -> 5/500
        settle a 1/100                      -> yes
        reclaim a spent 0/100               -> invariant
        reclaim a spent 6/100               -> invariant
        reclaim a spent 3/250               -> 2/250
        balance                             -> 7/750 0/0 1/100 2/150
        part a                              -> closed 0/0 5/500
    """,
    "a part of another epoch is closed and reversed into what is written off": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1 in one        -> 5/500
        grant b shop 1/1 of 1 in two        -> 2/250
        settle a 1/100                      -> yes
        reclaim a in two                    -> 0/0
        reclaim b in two                    -> 2/250
        unsettle a 1/100 in two             -> ok
        balance                             -> 5/500 0/0 0/0 5/500
    """,
    "what is reversed goes back to its part, or to what is free when that has ended": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1               -> 5/500
        settle a 2/200                      -> yes
        unsettle a 1/100                    -> ok
        part a                              -> open 4/400 5/500
        balance                             -> 5/500 4/400 1/100 0/0
        reclaim a                           -> 4/400
        unsettle a 0/40                     -> ok
        balance                             -> 9/940 0/0 1/60 0/0
        unsettle a 2/60                     -> constraint
        unsettle a 1/61                     -> constraint
        unsettle nobody 1/1                 -> invariant
        balance                             -> 9/940 0/0 1/60 0/0
    """,
    "a part never gets more back than it was granted": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1               -> 5/500
        unsettle a 1/1                      -> constraint
        balance                             -> 5/500 5/500 0/0 0/0
    """,
    "a top-up makes a used-up budget usable": """
        open 1/100                          -> ok
        grant a shop 1/100 of 1             -> 1/100
        grant b shop 1/100 of 1             -> budget_exhausted 0/0
        top_up 4/400                        -> ok
        grant b shop 1/100 of 1             -> 2/200
        balance                             -> 2/200 3/300 0/0 0/0
    """,
    "a part can be extended while it is open": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1               -> 5/500
        extend a 0/300                      -> ok
        part a                              -> open 5/800 5/800
        extend a 6/0                        -> constraint
        balance                             -> 5/200 5/800 0/0 0/0
    """,
    "units move in one direction only": """
        open 10/1000                        -> ok
        grant a shop 1/1 of 1               -> 5/500
        settle a -1/0                       -> invariant
        settle a 0/-1                       -> invariant
        unsettle a -1/0                     -> invariant
        extend a -1/0                       -> invariant
        balance                             -> 5/500 5/500 0/0 0/0
    """,
    "a holder spends from what it accepted, and not a unit more": """
        accept a 2/150                      -> yes
        accept a 2/150                      -> no
        accept a 9/900                      -> no
        spend a 1/100                       -> 1/50
        spend a 1/51                        -> invariant
        spend a 2/1                         -> invariant
        spend a 1/50                        -> 0/0
        spend a 1/0                         -> invariant
        give_back a 1/50                    -> yes
        give_back a 2/0                     -> constraint
        spend a -1/0                        -> invariant
        give_back a -1/0                    -> invariant
        part a                              -> open 1/50 2/150
        spend nobody 1/1                    -> invariant
        give_back nobody 1/1                -> no
    """,
    "a holder closes for good": """
        accept a 5/500                      -> yes
        accept b 5/500                      -> yes
        available                           -> a b
        spend a 1/100                       -> 4/400
        close a                             -> 4/400
        close a                             -> 0/0
        close nobody                        -> 0/0
        available                           -> b
        spend a 1/1                         -> invariant
        give_back a 1/100                   -> no
        accept a 5/500                      -> no
        available                           -> b
    """,
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_table(store: Store, promotion: str, case: str) -> None:
    for line in case.strip().splitlines():
        request, _, expected = (part.strip() for part in line.partition("->"))
        verb, *words = request.split()
        assert f"{request} -> {answer(store, promotion, verb, words)}" == f"{request} -> {expected}"
        check_books(store, promotion)


def answer(store: Store, promotion: str, verb: str, words: list[str]) -> str:
    """Run one row of the table and say in its words what came of it."""
    try:
        if verb in SHOWN:
            with store.read() as connection:
                return SHOWN[verb](connection, promotion, *words)
        return told(store.write_now(lambda tx: REQUESTS[verb](tx, promotion, *words)))
    except InvariantError:
        return "invariant"
    except IntegrityError:
        return "constraint"


def amounts(text: str) -> Amounts:
    uses, minor = text.split("/")
    return Amounts(int(uses), int(minor))


def told(result: Any) -> str:
    if isinstance(result, Refused):
        return f"{result.code} {told(result.had)}"
    if isinstance(result, Amounts):
        return f"{result.uses}/{result.minor}"
    return {True: "yes", False: "no", None: "ok"}.get(result, str(result))


def grant(
    tx: Tx, promotion: str, part: str, holder: str, needed: str, of: str, n: str, *epoch: str
) -> Any:
    got = ledger.grant(
        tx,
        part,
        promotion,
        holder=holder,
        incarnation="i",
        needed=amounts(needed),
        holders=int(n),
        epoch=epoch[-1] if epoch else "",
    )
    return got if isinstance(got, Refused) else got.granted


def accept(tx: Tx, promotion: str, part: str, size: str) -> bool:
    whole = amounts(size)
    held = ledger.Allotment(part, "elsewhere", HERE, "i", whole, whole, "open")
    return ledger.accept(tx, held)


def extend(tx: Tx, promotion: str, part: str, added: str) -> None:
    known = ledger.get(tx.connection, part)
    assert known is not None
    ledger.extend(tx, known, amounts(added))


def reclaim(tx: Tx, _: str, part: str, *said: str) -> Amounts:
    words = dict(zip(said[::2], said[1::2], strict=True))
    spent = amounts(words["spent"]) if "spent" in words else None
    return ledger.reclaim(tx, part, spent, epoch=words.get("in", ""))


def settle(tx: Tx, _: str, part: str, spent: str) -> bool:
    settling = ledger.Settling(tx, [part], "")
    is_settled = settling.settle(part, amounts(spent), "test")
    settling.write()
    return is_settled


REQUESTS: dict[str, Callable[..., Any]] = {
    "open": lambda tx, promotion, cap: ledger.open_budget(tx, promotion, amounts(cap), "test"),
    "top_up": lambda tx, promotion, added: ledger.top_up(tx, promotion, amounts(added), "test"),
    "grant": grant,
    "extend": extend,
    "settle": settle,
    "unsettle": lambda tx, _, part, back, *epoch: ledger.unsettle(
        tx, part, amounts(back), "test", epoch[-1] if epoch else ""
    ),
    "reclaim": reclaim,
    "write_off": lambda tx, _, part: ledger.write_off(tx, part),
    "accept": accept,
    "spend": lambda tx, _, part, spent: ledger.spend(tx, part, amounts(spent)).left,
    "give_back": lambda tx, _, part, back: ledger.give_back(tx, part, amounts(back)),
    "close": lambda tx, _, part: ledger.close(tx, part),
}


def show_balance(connection: sa.Connection, promotion: str) -> str:
    budget = ledger.budget_of(connection, promotion)
    assert budget is not None
    return " ".join(told(account) for account in budget.accounts())


def show_part(connection: sa.Connection, _: str, part: str) -> str:
    held = ledger.get(connection, part)
    assert held is not None
    return f"{held.state} {told(held.left)} {told(held.granted)}"


def show_available(connection: sa.Connection, _: str) -> str:
    found = ledger.available(connection, HERE, ["elsewhere", "another"])
    return " ".join(part.allotment_id for part in found.get("elsewhere", []))


SHOWN: dict[str, Callable[..., str]] = {
    "balance": show_balance,
    "part": show_part,
    "available": show_available,
}


def check_books(store: Store, promotion: str) -> None:
    """The balances, the double entries and the parts agree."""
    with store.read() as connection:
        budget = ledger.budget_of(connection, promotion)  # cap = free + open + … is checked there
        parts = ledger.of_promotion(connection, promotion)
        moved: dict[str, Amounts] = {}
        for row in connection.execute(
            sa.select(transfers).where(transfers.c.promotion_id == promotion)
        ):
            for account, sign in ((row.debit, -1), (row.credit, 1)):
                kind = account.partition(":")[0]
                uses, minor = moved.get(kind, Amounts(0, 0))
                moved[kind] = Amounts(uses + sign * row.uses, minor + sign * row.minor)
    if budget is None:
        assert not parts and not moved
        return
    names = ("free", "open", "spent", "written_off")
    assert dict(zip(names, budget.accounts(), strict=True)) == {
        name: moved.get(name, Amounts(0, 0)) for name in names
    }
    assert moved["world"] == Amounts(-budget.cap.uses, -budget.cap.minor)
    left = [part.left for part in parts if part.state == "open"]
    assert budget.open == Amounts(sum(one.uses for one in left), sum(one.minor for one in left))


# --- the database's own guards --------------------------------------------------------------------

BUDGET_CHANGES = [
    *(f"{account}_{unit} = -1" for account in ("free", "open") for unit in ("uses", "minor")),
    "free_uses = free_uses - 1",
    "spent_minor = spent_minor + 1",
    "cap_uses = cap_uses + 1",
    "cap_minor = cap_minor - 1",
    "spent_uses = -1, free_uses = free_uses + 1",
    "written_off_minor = -1, free_minor = free_minor + 1",
]
OTHER_CHANGES = [
    "UPDATE allotments SET left_uses = -1",
    "UPDATE allotments SET left_minor = -1",
    "UPDATE allotments SET left_uses = granted_uses + 1",
    "UPDATE allotments SET left_minor = granted_minor + 1",
    "UPDATE allotments SET state = 'lost'",
    "UPDATE transfers SET uses = -1",
    "UPDATE transfers SET minor = -1",
    "UPDATE promotions SET status = 'gone'",
    "UPDATE tenants SET kind = 'king'",
    "DELETE FROM promotions",
    "INSERT INTO budgets SELECT * FROM budgets",
]


@pytest.mark.parametrize(
    "statement", [f"UPDATE budgets SET {change}" for change in BUDGET_CHANGES] + OTHER_CHANGES
)
def test_the_database_itself_refuses(store: Store, promotion: str, statement: str) -> None:
    """pain 6, medusa #13760: Goal: no code path can break a promise. Method: plain SQL that would
    break it."""

    def begin(tx: Tx) -> None:
        ledger.open_budget(tx, promotion, Amounts(10, 1000), "test")
        grant(tx, promotion, "a", "shop", "1/1", "of", "1")

    store.write_now(begin)
    with pytest.raises(IntegrityError):
        store.write_now(lambda tx: tx.write(sa.text(statement)))
    with store.read() as connection:
        assert connection.execute(sa.select(budgets.c.free_uses)).scalar_one() == 5
