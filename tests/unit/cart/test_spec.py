"""The chapters of `spec/cart`, run against our engine; `spec/cart/README.md` says how to read them.

Goal: anybody's engine can be held to the same cases. A case marked `bug:` must fail here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sconto.base.clock import to_ms
from sconto.base.documents import from_builtins
from sconto.cart import Cart, Evaluation, HeldToken, Holder, Lane, Promotion, PromotionIndex
from sconto.cart.evaluate import evaluate
from sconto.cart.lanes import DEFAULT_LANES
from sconto.cart.returns import bring_back, keep_all
from sconto.cart.worked import cart_of
from sconto.terms import terms_from

SPEC = Path(__file__).parents[3] / "spec" / "cart"


class Case(NamedTuple):
    name: str
    cart: str
    promotions: list[tuple[str, int]]
    setting: dict[str, Any]
    expected: list[str]
    note: str
    lets: dict[str, Promotion]


def read(path: Path) -> Iterator[Case]:
    lines = path.read_text(encoding="utf-8").splitlines()
    lets: dict[str, Promotion] = {}
    for line in lines:
        if line.startswith("let "):
            name, _, text = line[4:].partition("=")
            lets[name.strip()] = promotion(name.strip(), json.loads(text))
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(("#", "let ")):
            continue
        cells = [cell.strip() for cell in line.split(";")]
        assert len(cells) == 6, f"{path.name}:{number} has {len(cells)} cells"
        name, cart, promotions, setting, expected, note = cells
        yield Case(
            f"{path.stem[:2]}: {name}",
            cart,
            [held(one) for one in promotions.split(",") if one.strip()],
            json.loads(setting) if setting else {},
            expected.split(),
            note,
            lets,
        )


def held(text: str) -> tuple[str, int]:
    name, _, times = text.strip().partition("*")
    return name, int(times or 1)


def promotion(name: str, value: dict[str, Any]) -> Promotion:
    terms = {"benefits": [value]} if "type" in value else value
    return Promotion.of(
        terms_from({"promotion_id": name, "title": name, "currency": "EUR", **terms})
    )


def instant(text: str) -> int:
    from datetime import datetime

    return to_ms(datetime.fromisoformat(text))


CASES = [case for path in sorted(SPEC.glob("*.txt")) for case in read(path)]


def test_there_are_enough_cases_and_no_name_twice() -> None:
    assert len(CASES) >= 300
    chapters = len(list(SPEC.glob("*.txt")))
    said = (SPEC / "README.md").read_text(encoding="utf-8")
    assert f"{len(CASES)} cases in {chapters} chapters" in said
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    if case.note.startswith("bug:"):
        with pytest.raises(AssertionError):
            check(case)
    else:
        check(case)


def check(case: Case) -> None:
    setting = dict(case.setting)
    at_ms = instant(setting.pop("at", "1970-01-01T00:00:00+00:00"))
    clipped = instant(setting.pop("clipped_at", "1970-01-01T00:00:00+00:00"))
    lanes = setting.pop("lanes", None)
    lanes = DEFAULT_LANES if lanes is None else from_builtins(lanes, tuple[Lane, ...])
    returns = setting.pop("returns", [])
    promotions = [case.lets[name] for name, _ in case.promotions]
    tokens = tuple(
        HeldToken(
            token_id=f"t-{name}" if times == 1 else f"t-{name}-{number}",
            terms_digest=case.lets[name].digest,
            clipped_at_ms=clipped,
        )
        for name, times in case.promotions
        for number in range(1, times + 1)
        if type(case.lets[name].terms.access).__name__ == "TokenAccess"
    )
    holder = Holder(
        client=setting.pop("client", None),
        proven=setting.pop("proven", True),
        tokens=tokens,
        segments=frozenset(setting.pop("segments", [])),
        order_number=setting.pop("order_number", None),
        attributes=setting.pop("shopper", {}),
    )
    cart = cart_of(case.cart, setting.pop("currency", "EUR"), **setting)
    found = evaluate(cart, PromotionIndex(promotions, lanes=lanes), holder, at_ms=at_ms)
    matched = evaluate(cart, Promotions_of(promotions, lanes), holder, at_ms=at_ms)
    assert found.applied == matched.applied
    refunds = []
    kept = keep_all(cart, found)
    terms = {one.digest: one.terms for one in promotions}
    for units in returns:
        done = bring_back(cart, found, kept, units, terms, holder=holder, at_ms=at_ms, lanes=lanes)
        kept = done.kept
        refunds.append(str(done.refund_minor))
    # Against the twin that considers everything, so that every refusal is there to be seen.
    Checker(matched, refunds).check(case.expected, cart)


def Promotions_of(promotions: list[Promotion], lanes: tuple[Lane, ...]) -> Any:
    from sconto.cart.index import Promotions

    return Promotions(promotions, lanes=lanes)


class Checker:
    def __init__(self, found: Evaluation, refunds: list[str]) -> None:
        self.found, self.refunds = found, refunds

    def check(self, expected: list[str], cart: Cart) -> None:
        lines = {line.line_id: 0 for line in self.found.lines}
        names_lines = False
        for word in expected:
            name, _, value = word.partition("=")
            if word[0] == "+":
                self.applies(name[1:], value)
            elif word[0] == "-":
                self.refuses(word[1:])
            elif name == "total":
                assert self.found.totals.total_minor == int(value), word
            elif name == "shipping":
                assert self.found.totals.shipping_discount_minor == int(value), word
            elif name == "refund":
                assert self.refunds == value.split(","), word
            elif name in ("gift", "points", "token", "remove"):
                self.extra(name, value)
            else:
                lines[name] = int(value)
                names_lines = True
        if names_lines:
            assert {x.line_id: x.discount_minor for x in self.found.lines} == lines

    def applies(self, name: str, value: str) -> None:
        amounts = [one.amount_minor for one in self.found.applied if one.promotion_id == name]
        assert amounts, f"{name} does not apply: {self.found.refused}"
        if value:
            assert sum(amounts) == int(value), name

    def refuses(self, text: str) -> None:
        if text[0] == "?":
            code, _, reason = text[1:].partition(":")
            pairs = [(one.presented_code, one.code.value) for one in self.found.refused]
            assert (code, reason) in pairs
            return
        if "<" in text:
            name, _, winner = text.partition("<")
            by = [one.beaten_by for one in self.found.refused if one.promotion_id == name]
            assert winner in by
            return
        name, *more = text.split(":")
        refused = [one for one in self.found.refused if one.promotion_id == name]
        assert refused, f"{name} is not refused"
        if more:
            assert more[0] in [one.code.value for one in refused]
        if more[1:]:
            assert int(more[1]) in [one.missing for one in refused]

    def extra(self, name: str, value: str) -> None:
        gifts = [gift for one in self.found.applied for gift in one.gifts]
        rewards = [reward for one in self.found.applied for reward in one.rewards]
        if name == "gift":
            assert value in [f"{gift.sku}:{gift.quantity}:{gift.missing}" for gift in gifts]
        elif name == "points":
            assert sum(one.count for one in rewards if one.kind == "points") == int(value)
        elif name == "token":
            assert value in [one.promotion_id for one in rewards if one.kind == "token"]
        else:
            assert value in self.found.gifts_to_remove
