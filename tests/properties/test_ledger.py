"""Grants are never more than what is free, and go on until everything is given out."""

from hypothesis import given
from hypothesis import strategies as st

from sconto.ledger import UNLIMITED, Amounts, Entry, Refused, chain, grant_size
from sconto.ledger.journal import GENESIS, decode_entry, encode_entry

amounts = st.builds(Amounts, st.integers(0, UNLIMITED), st.integers(0, UNLIMITED))
texts = st.text(max_size=20)


@given(amounts, amounts, st.integers(1, 1000))
def test_a_grant_covers_the_need_and_is_there(free: Amounts, needed: Amounts, holders: int) -> None:
    size = grant_size(free, needed, holders)
    if isinstance(size, Refused):
        assert not needed.fits(free)
        assert (size.needed, size.had) == (needed, free)
    else:
        assert needed.fits(size)
        assert size.fits(free)


@given(st.integers(0, 200), st.integers(1, 5))
def test_every_unit_of_a_budget_can_be_given_out(cap: int, holders: int) -> None:
    """Goal: utilisation reaches the whole cap. Method: ask for one use at a time until refused."""
    free = Amounts(cap, 0)
    while not isinstance(size := grant_size(free, Amounts(1, 0), holders), Refused):
        free = Amounts(free.uses - size.uses, 0)
    assert free.uses == 0


@given(
    st.builds(
        Entry,
        kind=st.just("refused"),
        promotion_id=texts,
        merchant=texts,
        at_ms=st.integers(0, 2**53 - 1),
        day=texts,
        amount_minor=st.integers(-(2**53), 2**53),
        is_complete=st.booleans(),
        reason=texts,
    )
)
def test_entries_survive_their_bytes_and_equal_entries_have_equal_bytes(entry: Entry) -> None:
    assert decode_entry(encode_entry(entry)) == entry
    assert encode_entry(decode_entry(encode_entry(entry))) == encode_entry(entry)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=8, unique=True), st.data())
def test_a_changed_or_lost_or_moved_entry_changes_every_later_hash(
    entries: list[bytes], data: st.DataObject
) -> None:
    def last_hash(rows: list[bytes]) -> bytes:
        value = GENESIS
        for row in rows:
            value = chain(value, row)
        return value

    place = data.draw(st.integers(0, len(entries) - 1))
    changed = [*entries[:place], entries[place] + b"!", *entries[place + 1 :]]
    lost = [*entries[:place], *entries[place + 1 :]]
    moved = [*lost[:-1], entries[place], *lost[-1:]]
    assert last_hash(entries) != last_hash(changed)
    assert last_hash(entries) != last_hash(lost)
    assert moved == entries or last_hash(entries) != last_hash(moved)
