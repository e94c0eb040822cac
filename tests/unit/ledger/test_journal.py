"""Journal entries: the bytes that are kept, and the chain over them."""

import hashlib

import msgspec
import pytest

from sconto.ledger import ENTRY_KINDS, Entry, chain, decode_entry, encode_entry
from sconto.ledger.journal import GENESIS

ENTRY = Entry(
    kind="redeemed",
    promotion_id="10-off",
    merchant="https://shop.example",
    at_ms=1_500_000_000_000,
    day="2017-07-14",
    token_id="t",
    order_id="o",
    redemption_id="r",
    amount_minor=250,
    currency="USD",
    is_direct=True,
)
BYTES = (
    b'{"kind":"redeemed","promotion_id":"10-off","merchant":"https://shop.example",'
    b'"at_ms":1500000000000,"day":"2017-07-14","token_id":"t","order_id":"o",'
    b'"redemption_id":"r","amount_minor":250,"currency":"USD","is_direct":true}'
)


def test_an_entry_has_these_bytes_for_ever() -> None:
    """Goal: old chains stay valid. Method: the bytes, written down; defaults are left out."""
    assert encode_entry(ENTRY) == BYTES
    assert decode_entry(BYTES) == ENTRY


@pytest.mark.parametrize("kind", ENTRY_KINDS)
def test_every_kind_survives_its_bytes(kind: str) -> None:
    entry = msgspec.convert(msgspec.to_builtins(ENTRY) | {"kind": kind}, Entry)
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        BYTES[:-1],
        BYTES.replace(b"redeemed", b"burnt"),
        BYTES.replace(b"250", b"2.5"),
        BYTES.replace(b'"10-off"', b"null"),
    ],
)
def test_other_bytes_are_no_entry(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_entry(data)


def test_the_chain_is_sha_256_over_the_hash_before_and_the_entry() -> None:
    first = chain(GENESIS, BYTES)
    assert first == hashlib.sha256(bytes(32) + BYTES).digest()
    assert chain(first, BYTES) != first
    assert chain(first, BYTES + b" ") != chain(first, BYTES)
