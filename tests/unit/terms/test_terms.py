"""Terms decode strictly, name what is wrong, and have one canonical form and one digest."""

import json
from typing import Any

import msgspec
import pytest

from sconto.base.documents import to_builtins
from sconto.base.errors import InvalidInputError
from sconto.terms import (
    TERMS_BYTES_MAX,
    Limit,
    decode_terms,
    encode_terms,
    terms_digest,
    terms_from,
    terms_schema,
)

GOOD: dict[str, Any] = {
    "promotion_id": "p1",
    "title": "Ten off",
    "currency": "USD",
    "benefits": [
        {"type": "percent_off", "basis_points": 1000, "items": {"include": [{"skus": ["b", "a"]}]}}
    ],
    "conditions": [
        {"type": "any", "of": [{"type": "quantity", "min": 2}, {"type": "store", "any_of": ["s"]}]}
    ],
    "schedule": {"from": "2017-10-30", "time_zone": "America/Chicago"},
    "texts": {"de": {"title": "Zehn Prozent"}},
}


def changed(path: str, value: Any) -> bytes:
    """GOOD with one value changed; a value of `...` takes it out."""
    document = json.loads(json.dumps(GOOD))
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "field", "remedy"),
    [
        ("titel", "x", "titel", "title"),
        ("benefits.0.basispoints", 1, "benefits[0].basispoints", "basis_points"),
        ("benefits.0.type", "percentoff", "benefits[0].type", "percent_off"),
        (
            "benefits.0.items.include.0.sku",
            ["a"],
            "benefits[0].items.include[0].sku",
            "skus",
        ),
        ("conditions.0.of.0.minimum", 1, "conditions[0].of[0].minimum", "min"),
        ("conditions.0.of.1.anyof", ["a"], "conditions[0].of[1].anyof", "any_of"),
        ("schedule.timezone", "UTC", "schedule.timezone", "time_zone"),
        ("on_return", "prorated", "on_return", "prorate"),
        ("access", {"type": "tokens"}, "access.type", "token"),
        ("limits", [{"uses": 1, "perr": ["code"]}], "limits[0].perr", "per"),
        ("funding", {"share": []}, "funding.share", "shares"),
    ],
)
def test_a_misspelt_name_is_an_error_that_suggests_the_right_one(
    path: str, value: Any, field: str, remedy: str
) -> None:
    with pytest.raises(InvalidInputError) as error:
        decode_terms(changed(path, value))
    assert error.value.field == field
    assert error.value.remedy == f"did you mean {remedy!r}?"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("currency", "usd", "currency"),
        ("currency", "USD\n", "currency"),
        ("currency", ..., "currency"),
        ("title", "", "title"),
        ("title", 5, "title"),
        ("version", 0, "version"),
        ("version", True, "version"),
        ("benefits", [], "benefits"),
        ("benefits.0.basis_points", 0, "benefits[0].basis_points"),
        ("benefits.0.basis_points", 10_001, "benefits[0].basis_points"),
        ("benefits.0.basis_points", "10", "benefits[0].basis_points"),
        ("benefits.0.items.include.0", {}, "benefits[0].items.include[0]"),
        ("conditions.0.of", [], "conditions[0].of"),
        ("conditions.0.of.0", {"type": "quantity"}, "conditions[0].of[0]"),
        ("conditions.0.of.0", {"type": "subtotal", "min_minor": 2, "max_minor": 1},
         "conditions[0].of[0]"),
        ("conditions.0.of.0", {"type": "order_number"}, "conditions[0].of[0]"),
        ("conditions.0.of.0", {"type": "store", "any_of": []}, "conditions[0].of[0].any_of"),
        ("access", {"type": "code", "code": " - "}, "access"),
        ("funding", {"shares": [{"party": "a", "basis_points": 5000},
                                {"party": "a", "basis_points": 5000}]}, "funding"),
        ("schedule.time_zone", "Mars/Olympus", "schedule"),
        ("schedule.from", "2017-13-01", "schedule"),
        ("schedule.from", "tomorrow!!", "schedule"),
        ("schedule.weekly", [{"from": "25:00"}], "schedule.weekly[0].from"),
        ("texts.de.title", "", "texts[...].title"),
        ("funding", {"shares": [{"party": "a", "basis_points": 9999}]}, "funding"),
        ("funding", {"shares": [{"party": "a", "basis_points": 5000}] * 2}, "funding"),
        ("limits", [{}], "limits[0]"),
        ("limits", [{"uses": 1, "amount_minor": 1}], "limits[0]"),
        ("limits", [{"uses": 1, "per": ["attribute"]}], "limits[0]"),
        ("limits", [{"uses": 1, "per": []}], "limits[0].per"),
        ("benefits.0", {"type": "tiered", "measure": "subtotal", "tiers": [
            {"from": 2, "amount_minor": 1}, {"from": 2, "amount_minor": 2}]}, "benefits[0]"),
        ("benefits.0", {"type": "tiered", "measure": "subtotal", "tiers": [{"from": 2}]},
         "benefits[0].tiers[0]"),
        ("benefits.0", {"type": "shipping_off"}, "benefits[0]"),
        ("benefits.0", {"type": "amount_off", "amount_minor": 1, "pick": {}}, "benefits[0]"),
        ("benefits.0.items.include.0", {"price_min_minor": 2, "price_max_minor": 1},
         "benefits[0].items.include[0]"),
        ("benefits.0.items.include.0", {"attributes": [{"name": "x"}]},
         "benefits[0].items.include[0].attributes[0]"),
        ("benefits.0.items.include.0", {"attributes": [{"name": "x", "min": 2, "max": 1}]},
         "benefits[0].items.include[0].attributes[0]"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_and_the_field_named(path: str, value: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        decode_terms(changed(path, value))
    assert error.value.field == field


def test_the_field_of_a_part_of_a_larger_document_has_its_place_in_front() -> None:
    with pytest.raises(InvalidInputError) as error:
        terms_from({**GOOD, "titel": "x"}, field="offers[3].terms")
    assert error.value.field == "offers[3].terms.titel"


def test_the_canonical_form_is_sorted_and_leaves_defaults_out() -> None:
    body = encode_terms(terms_from({**GOOD, "version": 1, "no_effect": "refuse"}))
    assert json.loads(body)["benefits"][0]["items"]["include"] == [{"skus": ["a", "b"]}]
    assert b"version" not in body
    assert b"no_effect" not in body
    assert body == encode_terms(decode_terms(body))


def test_the_digest_names_the_promise_and_nothing_else() -> None:
    """Goal: order of names and spelled-out defaults do not matter, any other word does."""
    same = dict(reversed(list(GOOD.items()))) | {"on_return": "prorate"}
    assert terms_digest(terms_from(same)) == terms_digest(terms_from(GOOD))
    for path, value in (("title", "x"), ("version", 2), ("benefits.0.basis_points", 1001)):
        assert terms_digest(decode_terms(changed(path, value))) != terms_digest(terms_from(GOOD))


def test_ten_thousand_skus_fit_and_more_than_the_bound_do_not() -> None:
    skus = [f"{i:013}" for i in range(10_000)]
    body = changed("benefits.0.items.include.0.skus", skus)
    assert len(decode_terms(body).benefits[0].items.include[0].skus) == 10_000
    with pytest.raises(InvalidInputError) as error:
        decode_terms(body + b" " * TERMS_BYTES_MAX)
    assert error.value.code == "too_large"


def test_terms_made_in_python_are_bounded_when_they_are_encoded() -> None:
    terms = terms_from(GOOD)
    long = {f"x{i}": "y" * 200 for i in range(6000)}
    with pytest.raises(InvalidInputError) as error:
        encode_terms(msgspec.structs.replace(terms, external_ids=long))
    assert error.value.code == "too_large"


def test_text_without_a_canonical_form_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="canonical"):
        encode_terms(msgspec.structs.replace(terms_from(GOOD), title="half of \ud83c"))


def test_the_budget_is_what_limits_the_promotion_as_a_whole_for_ever() -> None:
    limits = [
        {"uses": 100},
        {"uses": 90, "period": "day"},
        {"uses": 80, "per": ["shopper"]},
        {"amount_minor": 5000},
    ]
    assert terms_from({**GOOD, "limits": limits}).budget() == (100, 5000)
    assert terms_from(GOOD).budget() == (None, None)
    assert Limit(uses=1).per == {"promotion"}


def test_a_text_is_found_by_its_language_then_by_its_main_language() -> None:
    terms = terms_from(GOOD)
    assert terms.text("de").title == "Zehn Prozent"
    assert terms.text("de-AT").title == "Zehn Prozent"
    assert terms.text("fr").title == "Ten off"


def test_the_schema_names_every_benefit_and_condition() -> None:
    schema = terms_schema()
    text = json.dumps(schema)
    for tag in ("percent_off", "buy_get", "bundle_price", "shipping_method", "order_number"):
        assert f'"{tag}"' in text
    assert schema["$defs"]["PercentOff"]["additionalProperties"] is False
    assert to_builtins(terms_from(GOOD))["schedule"]["from"] == "2017-10-30"
