"""Budgets against a model of a few lines, in any order of requests, on both databases.

The model keeps five pots per dimension and the parts by id; after each step the database must say
the same. A promotion of its own makes each run of the machine independent of those before. Half of
the runs are about the budget of a counter of it; the other of the two budgets must not move.
"""

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy.exc import IntegrityError

from sconto.base.errors import InvariantError
from sconto.ledger import Amounts, Refused, grant_size
from sconto.store import Store, ledger, promotions
from sconto.store.access import add_tenant
from sconto.store.writer import Tx

DAY = "day:2026-11-24"
numbers = itertools.count()
sizes = st.builds(Amounts, st.integers(0, 12), st.integers(0, 1200))
picks = st.integers(0, 50)


def plus(a: Amounts, b: Amounts) -> Amounts:
    return Amounts(a.uses + b.uses, a.minor + b.minor)


def minus(a: Amounts, b: Amounts) -> Amounts:
    return Amounts(a.uses - b.uses, a.minor - b.minor)


class Books(RuleBasedStateMachine):
    """The real ledger and the model, side by side."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        number = next(numbers)
        self.promotion = f"p{number}"
        self.counter, self.other = ("", DAY) if number % 2 else (DAY, "")
        self.free = self.other_free = Amounts(20, 2000)
        self.spent = self.written_off = Amounts(0, 0)
        self.granted: dict[str, Amounts] = {}
        self.left: dict[str, Amounts] = {}
        self.state: dict[str, str] = {}

        def begin(tx: Tx) -> None:
            add_tenant(tx, "acme", "brand", "Acme")
            digest = f"sha-256=:{self.promotion}:"
            version = promotions.Version(self.promotion, 1, digest, b"{}", "signature")
            promotions.save(
                tx, version, tenant_id="acme", hub=None, status="active", is_accepted=True
            )
            for counter in (self.counter, self.other):
                ledger.open_budget(tx, self.promotion, self.free, "test", counter)

        store.write_now(begin)

    def pick(self, number: int) -> str:
        return sorted(self.granted)[number % len(self.granted)]

    @rule(added=sizes)
    def top_up(self, added: Amounts) -> None:
        self.store.write_now(lambda tx: ledger.top_up(tx, self.promotion, added, "test"))
        if self.counter:
            self.other_free = plus(self.other_free, added)
        else:
            self.free = plus(self.free, added)

    @rule(needed=sizes, holders=st.integers(1, 4))
    def grant(self, needed: Amounts, holders: int) -> None:
        part = f"{self.promotion}-{len(self.granted)}"
        got = self.store.write_now(
            lambda tx: ledger.grant(
                tx,
                part,
                self.promotion,
                holder="shop",
                incarnation="i",
                needed=needed,
                holders=holders,
                counter=self.counter,
            )
        )
        size = grant_size(self.free, needed, holders)
        if isinstance(size, Refused):
            assert got == size
            return
        assert got.granted == got.left == size
        self.free = minus(self.free, size)
        self.granted[part] = self.left[part] = size
        self.state[part] = "open"

    @precondition(lambda self: self.granted)
    @rule(number=picks, spent=sizes)
    def settle(self, number: int, spent: Amounts) -> None:
        part = self.pick(number)

        def command(tx: Tx) -> bool:
            settling = ledger.Settling(tx, [part], "")
            is_settled = settling.settle(part, spent, "test")
            settling.write()
            return is_settled

        settled = self.store.write_now(command)
        assert settled == (self.state[part] != "closed" and spent.fits(self.left[part]))
        if settled:
            if self.state[part] == "written_off":
                self.written_off = minus(self.written_off, spent)
            self.left[part] = minus(self.left[part], spent)
            self.spent = plus(self.spent, spent)

    @precondition(lambda self: self.granted)
    @rule(number=picks, back=sizes)
    def unsettle(self, number: int, back: Amounts) -> None:
        part = self.pick(number)
        state = self.state[part]
        room = minus(self.granted[part], self.left[part])
        may = back.fits(self.spent) and (back.fits(room) or state == "closed")
        try:
            self.store.write_now(lambda tx: ledger.unsettle(tx, part, back, "test"))
        except IntegrityError:
            assert not may
            return
        assert may
        self.spent = minus(self.spent, back)
        if state == "closed":
            self.free = plus(self.free, back)
            return
        self.left[part] = plus(self.left[part], back)
        if state == "written_off":
            self.written_off = plus(self.written_off, back)

    @precondition(lambda self: self.granted)
    @rule(number=picks, added=sizes)
    def extend(self, number: int, added: Amounts) -> None:
        part = self.pick(number)
        may = self.state[part] == "open" and added.fits(self.free)

        def command(tx: Tx) -> None:
            known = ledger.get(tx.connection, part)
            assert known is not None
            ledger.extend(tx, known, added)

        try:
            self.store.write_now(command)
        except (IntegrityError, InvariantError):
            assert not may
            return
        assert may
        self.free = minus(self.free, added)
        self.granted[part] = plus(self.granted[part], added)
        self.left[part] = plus(self.left[part], added)

    @precondition(lambda self: self.granted)
    @rule(number=picks, is_lost=st.booleans())
    def end(self, number: int, is_lost: bool) -> None:
        """Close a part, or write it off."""
        part = self.pick(number)
        act = ledger.write_off if is_lost else ledger.reclaim
        left = self.store.write_now(lambda tx: act(tx, part))
        if self.state[part] != "open":
            assert left == Amounts(0, 0)
            return
        assert left == self.left[part]
        self.state[part] = "written_off" if is_lost else "closed"
        if is_lost:
            self.written_off = plus(self.written_off, left)
        else:
            self.left[part] = Amounts(0, 0)
            self.free = plus(self.free, left)

    @invariant()
    def the_database_says_the_same(self) -> None:
        with self.store.read() as connection:
            budget = ledger.budget_of(connection, self.promotion, self.counter)
            other = ledger.budget_of(connection, self.promotion, self.other)
            found = ledger.of_promotion(connection, self.promotion, self.counter)
            assert ledger.of_promotion(connection, self.promotion, self.other) == []
        parts = {p.allotment_id: p for p in found}
        assert budget is not None
        assert other is not None
        nothing = Amounts(0, 0)
        assert other.accounts() == (self.other_free, nothing, nothing, nothing)
        opened = Amounts(0, 0)
        for name, part in self.left.items():
            if self.state[name] == "open":
                opened = plus(opened, part)
        assert budget.accounts() == (self.free, opened, self.spent, self.written_off)
        assert {name: part.left for name, part in parts.items()} == self.left
        assert {name: part.granted for name, part in parts.items()} == self.granted
        assert {name: part.state for name, part in parts.items()} == self.state


@pytest.mark.parametrize(("kind", "examples"), [("sqlite", 12), ("postgres", 3)])
def test_budgets_follow_the_model(request: pytest.FixtureRequest, kind: str, examples: int) -> None:
    """Goal: no order of requests breaks the books. Method: Hypothesis looks for one that does."""
    store: Store = request.getfixturevalue(f"{kind}_store")
    run_machine(
        lambda: Books(store),
        settings=settings(
            max_examples=examples,
            stateful_step_count=15,
            suppress_health_check=list(HealthCheck),
        ),
    )
