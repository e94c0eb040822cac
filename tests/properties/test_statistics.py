"""Counters merge: in any order, in any grouping, a recount gives the same numbers."""

from hypothesis import given
from hypothesis import strategies as st

from sconto.ledger import ENTRY_KINDS, Entry
from sconto.statistics import Counters, count, fold

counters = st.builds(Counters, *[st.integers(0, 10**12)] * len(Counters._fields))
entries = st.builds(
    Entry,
    kind=st.sampled_from(ENTRY_KINDS),
    promotion_id=st.sampled_from(["p", "q"]),
    merchant=st.sampled_from(["m", "n"]),
    at_ms=st.just(1),
    day=st.sampled_from(["2017-07-14", "2017-07-15"]),
    amount_minor=st.integers(0, 10_000),
    is_direct=st.booleans(),
    is_complete=st.booleans(),
    reason=st.sampled_from(["expired", "minimum_not_reached"]),
)


@given(counters, counters, counters)
def test_counters_merge_in_any_order_and_grouping(a: Counters, b: Counters, c: Counters) -> None:
    assert a.plus(b) == b.plus(a)
    assert a.plus(b).plus(c) == a.plus(b.plus(c))
    assert a.plus(Counters()) == a


@given(st.lists(entries, max_size=30).flatmap(lambda e: st.tuples(st.just(e), st.permutations(e))))
def test_the_order_of_entries_does_not_matter(both: tuple[list[Entry], list[Entry]]) -> None:
    one, other = (fold(order) for order in both)
    assert one.cells == other.cells
    assert one.refusals == other.refusals


@given(st.lists(entries, max_size=30), st.integers(0, 30))
def test_two_halves_of_a_journal_add_up_to_the_whole(all_: list[Entry], cut: int) -> None:
    whole, first, second = fold(all_), fold(all_[:cut]), fold(all_[cut:])
    assert whole.cells.keys() == first.cells.keys() | second.cells.keys()
    for cell, counted in whole.cells.items():
        nothing = Counters()
        assert counted == first.cells.get(cell, nothing).plus(second.cells.get(cell, nothing))
    for key, number in whole.refusals.items():
        assert number == first.refusals.get(key, 0) + second.refusals.get(key, 0)


@given(entries)
def test_no_entry_counts_below_zero_and_shown_never_mixes(entry: Entry) -> None:
    counted = count(entry)
    assert min(counted) >= 0
    assert counted.applied <= counted.presented
    assert bool(counted.shown) == (entry.kind == "shown")
    assert sum(counted[1:]) == 0 or entry.kind != "shown"
