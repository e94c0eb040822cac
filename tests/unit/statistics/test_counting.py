"""What each entry of the journal counts, as a table; and the fold over them."""

from typing import Any

import msgspec
import pytest

from sconto.ledger import ENTRY_KINDS, Entry
from sconto.statistics import Cell, Counters, cell_of, count, fold


def entry(kind: str, **fields: Any) -> Entry:
    given = {"promotion_id": "p", "merchant": "m", "at_ms": 1, "day": "2017-07-14"}
    return msgspec.convert({"kind": kind, "currency": "USD", **given, **fields}, Entry)


@pytest.mark.parametrize(
    ("kind", "fields", "counts"),
    [
        ("shown", {}, {"shown": 1}),
        ("clipped", {}, {"clipped": 1}),
        ("refused", {"reason": "expired"}, {"presented": 1}),
        ("reserved", {"amount_minor": 100}, {"presented": 1, "applied": 1}),
        ("reserved", {"amount_minor": 0}, {"presented": 1}),  # no effect, used all the same
        # after a reservation: presented and applied were counted there
        ("redeemed", {"amount_minor": 100}, {"redeemed": 1, "given_minor": 100}),
        ("redeemed", {"amount_minor": 0}, {"redeemed": 1}),
        (
            "redeemed",
            {"amount_minor": 100, "is_direct": True},
            {"presented": 1, "applied": 1, "redeemed": 1, "given_minor": 100},
        ),
        ("redeemed", {"amount_minor": 0, "is_direct": True}, {"presented": 1, "redeemed": 1}),
        # a return in two steps: money at once, the count when nothing is left
        ("reversed", {"amount_minor": 40}, {"reversed_minor": 40}),
        (
            "reversed",
            {"amount_minor": 60, "is_complete": True},
            {"reversed": 1, "reversed_minor": 60},
        ),
        ("released", {"amount_minor": 100}, {}),
        ("expired", {"amount_minor": 100}, {}),
    ],
)
def test_what_an_entry_counts(kind: str, fields: dict[str, Any], counts: dict[str, int]) -> None:
    assert count(entry(kind, **fields)) == Counters(**counts)


@pytest.mark.parametrize("kind", ENTRY_KINDS)
def test_every_kind_is_counted_somehow(kind: str) -> None:
    """Goal: a new kind is not forgotten. Method: `count` gives Counters and not None."""
    assert isinstance(count(entry(kind, reason="expired")), Counters)


def test_a_cell_is_a_promotion_a_merchant_and_a_day() -> None:
    assert cell_of(entry("shown")) == Cell("p", "m", "2017-07-14")


def test_a_day_in_the_life_of_a_promotion() -> None:
    """Goal: the funnel reads as people expect. Method: two checkouts, a refusal, a return."""
    counted = fold(
        [
            entry("shown"),
            entry("shown"),
            entry("shown"),
            entry("clipped"),
            entry("clipped"),
            entry("refused", reason="minimum_not_reached"),
            entry("reserved", amount_minor=100),
            entry("redeemed", amount_minor=100),
            entry("redeemed", amount_minor=50, is_direct=True),
            entry("reversed", amount_minor=100, is_complete=True),
            entry("shown", day="2017-07-15"),
        ]
    )
    assert counted.cells[Cell("p", "m", "2017-07-14")] == Counters(
        shown=3,
        clipped=2,
        presented=3,
        applied=2,
        redeemed=2,
        reversed=1,
        given_minor=150,
        reversed_minor=100,
    )
    assert counted.cells[Cell("p", "m", "2017-07-15")] == Counters(shown=1)
    assert counted.refusals == {(Cell("p", "m", "2017-07-14"), "minimum_not_reached"): 1}
