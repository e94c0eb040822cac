"""The observer believes what it has written down, and its checks find what is wrong."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sconto.base.errors import UnavailableError
from sconto.base.keys import KeySet, SigningKey, sign_compact
from sconto.redemption import RECEIPT_TYPE
from sconto.torture import observer as module
from sconto.torture.caps import _named
from sconto.torture.observer import (
    Observer,
    Request,
    folder_elsewhere,
    lost,
    overspent,
    read_answer,
)
from sconto.torture.places import PROMOTION
from sconto.torture.stored import Stored
from sconto.torture.together import unbalanced


def order(number: int, shop: int = 0) -> Request:
    return Request(f"o-{number}", shop, "/v1/redemptions", b"{}")


def reversal(number: int, shop: int = 0) -> Request:
    return Request(f"r-{number}", shop, "/v1/reversals", b"{}", reverses=f"o-{number}")


def answer(*redemption_ids: str, refused: int = 0, is_complete: bool = True) -> bytes:
    redemptions = [{"redemption_id": one, "is_complete": is_complete} for one in redemption_ids]
    refusals = [{"promotion_id": PROMOTION}] * refused + [{"presented_code": "X"}]
    document = {"redemptions": redemptions, "evaluation": {"refused": refusals}, "receipt": "jws"}
    return json.dumps(document).encode()


def history(path: Path, *steps: tuple[Request, int, bytes]) -> Observer:
    """An observer that has sent these requests and got these answers."""

    async def tell() -> Observer:
        observer = Observer(path)
        for request, status, body in steps:
            if request.id not in observer.unknown:
                await observer.sends(request)
            await observer.hears(request, status, body)
        observer.close()
        return observer

    return asyncio.run(tell())


def test_only_an_answer_for_good_is_believed(tmp_path: Path) -> None:
    """A 503 and a 429 say nothing; a 4xx says no; a 2xx is an acknowledgement."""
    observer = history(
        tmp_path / "history",
        (order(1), 503, b""),
        (order(1), 429, b""),
        (order(2), 409, b"{}"),
        (order(3, shop=1), 201, answer("a", refused=2)),
    )
    assert set(observer.unknown) == {"o-1"}
    assert set(observer.refused) == {"o-2"}
    assert observer.orders() == observer.orders(1) == {"o-3"} and observer.orders(0) == set()
    assert observer.redemptions(1) == {"a"} and observer.receipts(1) == {"a": "jws"}
    assert observer.refusals() == 2
    assert observer.statuses == {503: 1, 429: 1, 409: 1, 201: 1}


def test_everything_is_in_the_history_before_it_counts(tmp_path: Path) -> None:
    """Both directions, in order, one JSON object a line."""
    history(tmp_path / "history", (order(1), 201, answer("a")))
    lines = [json.loads(text) for text in (tmp_path / "history").read_text().splitlines()]
    assert [next(iter(one)) for one in lines] == ["sends", "hears"]
    assert lines[1]["redemption_ids"] == ["a"] and lines[1]["status"] == 201


def test_reversals_are_net_once_they_are_complete(tmp_path: Path) -> None:
    """A part that was taken back leaves the redemption in force."""
    observer = history(
        tmp_path / "history",
        (order(1), 201, answer("a")),
        (order(2), 201, answer("b")),
        (reversal(1), 200, answer("a")),
        (reversal(2), 200, answer("b", is_complete=False)),
    )
    assert observer.redemptions() == {"a", "b"} and observer.reversed_redemptions() == {"a"}
    assert observer.reversals() == {("o-1", "r-1"), ("o-2", "r-2")}
    assert observer.touched == {"o-1", "o-2"}
    assert overspent(observer.redemptions(), observer.reversed_redemptions(), cap=1) == 0
    assert overspent(observer.redemptions(), set(), cap=1) == 1


def test_a_lost_order_is_found() -> None:
    assert lost({"o-1", "o-2"}, {"o-1", "o-2", "o-3"}) == []
    assert lost({"o-1", "o-2"}, {"o-2"}) == ["o-1"]


def test_the_same_answer_is_the_same_bytes() -> None:
    one, other = read_answer(201, answer("a")), read_answer(201, answer("a") + b" ")
    assert one.digest != other.digest and one.redemption_ids == other.redemption_ids


def test_a_history_beside_the_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut of one disk must not take the other."""
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    with pytest.raises(UnavailableError, match="no second file system"):
        folder_elsewhere(tmp_path)


def books(**changed: Any) -> Stored:
    """A hub that counts what the history of `told` says, but for what is changed."""
    accounts = {"cap": 10, "free": 5, "open": 4, "spent": 1, "written_off": 0}
    states = {"a": "redeemed", "b": "reversed"}
    entries = {"redeemed": 2, "reversed": 1, "refused": 3}
    whole = Stored(set(), set(), states, entries, {(PROMOTION, ""): accounts}, [])
    return whole._replace(**changed)


def told(path: Path) -> Observer:
    return history(
        path,
        (order(1), 201, answer("a", refused=3)),
        (order(2), 201, answer("b")),
        (reversal(2), 200, answer("b")),
    )


def test_books_that_agree_with_the_history_are_balanced(tmp_path: Path) -> None:
    assert unbalanced(books(), told(tmp_path / "history"), cap=10) == []


ACCOUNTS = books().budgets[PROMOTION, ""]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"budgets": {(PROMOTION, ""): {**ACCOUNTS, "free": 6}}}, "do not add up"),
        ({"budgets": {(PROMOTION, ""): {**ACCOUNTS, "cap": 11, "free": 6}}}, "do not add up"),
        ({"redemptions": {"a": "redeemed", "b": "redeemed"}}, "1 are spent, 2 redeemed"),
        ({"redemptions": {"a": "redeemed", "b": "disputed"}}, "1 redemptions are disputed"),
        ({"entries": {"redeemed": 3, "reversed": 1, "refused": 3}}, "the hub counts"),
        ({"entries": {"redeemed": 2, "reversed": 1}}, "the hub counts"),
        ({"parked": ["duplicate: known"]}, "parked: duplicate"),
    ],
)
def test_books_that_are_wrong_are_found(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    [wrong] = unbalanced(books(**changed), told(tmp_path / "history"), cap=10)
    assert why in wrong


def test_where_a_disk_was_lost_the_hub_may_know_less() -> None:
    """Then only the accounts are looked at; and what a restored merchant repeats is no fault."""
    known = books(entries={}, parked=["duplicate: known"])
    assert unbalanced(known, None, cap=10) == []
    assert unbalanced(books(parked=["malformed: what is this"]), None, cap=10) != []


def test_a_receipt_counts_where_its_merchant_signed_it() -> None:
    mine, other = (SigningKey.from_seed(bytes([i]) * 32) for i in (1, 2))
    claims = {"redemptions": [{"redemption_id": "a"}]}
    keys = KeySet([mine.public])
    assert _named(keys, sign_compact(mine, RECEIPT_TYPE, claims)) == {"a"}
    assert _named(keys, sign_compact(other, RECEIPT_TYPE, claims)) == set()
    assert _named(keys, "a.b.c") == set()
