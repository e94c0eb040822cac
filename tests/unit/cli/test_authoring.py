"""`sconto promotions …` on files: findings, sentences, evaluations and plain reasons; no server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sconto.base.errors import InvalidInputError
from sconto.cli import app
from sconto.terms import terms_schema

NEAR = {
    "promotion_id": "save",
    "title": "5.00 off from 20.00",
    "currency": "USD",
    "access": {"type": "code", "code": "SAVE5"},
    "conditions": [{"type": "subtotal", "min_minor": 2000}],
    "benefits": [{"type": "amount_off", "amount_minor": 500}],
    "funding": {
        "shares": [
            {"party": "brand", "basis_points": 7000},
            {"party": "shop", "basis_points": 3000},
        ]
    },
    "limits": [{"uses": 100}],
}
CHRISTMAS = {
    "promotion_id": "christmas",
    "title": "Christmas",
    "currency": "USD",
    "benefits": [{"type": "percent_off", "basis_points": 1000}],
    "schedule": {"from": "2030-12-24T00:00:00Z", "until": "2030-12-27T00:00:00Z"},
    "limits": [{"uses": 100}],
}
CART = {
    "currency": "USD",
    "lines": [
        {"id": "1", "sku": "oaty", "quantity": 2, "price_minor": 790},
    ],
    "codes": ["save-5"],
}


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["promotions", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "terms").mkdir()
    (tmp_path / "terms" / "near.json").write_text(json.dumps(NEAR))
    (tmp_path / "terms" / "more.json").write_text(json.dumps([CHRISTMAS]))
    (tmp_path / "cart.json").write_text(json.dumps(CART))
    return tmp_path


def test_a_nearly_matching_coupon_names_the_missing_amount(folder: Path) -> None:
    """pain 48: 15.80 of 20.00: spend 4.20 more; a stranger is told nothing of it."""
    done = run("explain", folder / "terms/near.json", "--cart", folder / "cart.json")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "Refused: save (code save-5): subtotal_too_low, the items cost too little",
        "  conditions[0]: needed 20.00 USD, had 15.80 USD: spend 4.20 USD more",
        "Hint: save (5.00 off from 20.00): spend 4.20 USD more",
        "Total: 15.80 USD",
    ]
    done = run("explain", folder / "terms/near.json", "--cart", folder / "cart.json", "--stranger")
    assert "not_applicable" in done.stdout
    assert "4.20" not in done.stdout and "save:" not in done.stdout


def test_what_applies_is_told_to_the_cent_with_who_pays(folder: Path) -> None:
    cart = {**CART, "lines": [*CART["lines"], {"id": "2", "sku": "jam", "amount_minor": 420}]}
    (folder / "cart.json").write_text(json.dumps(cart))
    done = run("explain", folder / "terms/near.json", "--cart", folder / "cart.json")
    assert done.stdout.splitlines() == [
        "Applies: save (code save-5): 5.00 USD off, 5.00 off from 20.00",
        "  line 1: 3.95 USD",
        "  line 2: 1.05 USD",
        "  paid by brand: 3.50 USD",
        "  paid by shop: 1.50 USD",
        "Total: 20.00 USD - 5.00 USD = 15.00 USD",
    ]
    short = run(
        "evaluate", folder / "terms", "--cart", folder / "cart.json", "--at", "2030-01-01T00:00:00Z"
    )
    assert short.stdout.splitlines() == [
        "save: 5.00 USD off, 5.00 off from 20.00",
        "refused: christmas (see explain)",
        "Total: 20.00 USD - 5.00 USD = 15.00 USD",
    ]


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("2030-12-23T23:59:59Z", "not_started"),
        ("2030-12-24T01:00:00+01:00", None),
        ("2030-12-27T00:00:00Z", "expired"),
    ],
)
def test_at_any_instant(folder: Path, at: str, reason: str | None) -> None:
    done = run("explain", folder / "terms", "--cart", folder / "cart.json", "--at", at, "--json")
    answer = json.loads(done.stdout)
    refused = {one["promotion_id"]: one["code"] for one in answer["evaluation"]["refused"]}
    assert refused.get("christmas") == reason
    assert any("christmas" in line for line in answer["lines"])


def test_tokens_and_unique_codes_are_supposed_to_be_held(folder: Path) -> None:
    """Without a holder's file an author need not make tokens to try a promotion for them."""
    token = {**CHRISTMAS, "promotion_id": "t", "access": {"type": "token"}, "schedule": {}}
    unique = {**token, "promotion_id": "u", "access": {"type": "unique_codes"}}
    (folder / "more.json").write_text(json.dumps([token, unique]))
    args = ("evaluate", folder / "more.json", "--cart", folder / "cart.json", "--json")
    answer = json.loads(run(*args).stdout)
    assert [one["promotion_id"] for one in answer["applied"]] == ["t", "u"]
    held = {"proven": True, "tokens": []}
    (folder / "holder.json").write_text(json.dumps(held))
    answer = json.loads(run(*args, "--holder", folder / "holder.json").stdout)
    assert answer["applied"] == []
    done = run("explain", *args[1:4], "--holder", folder / "holder.json")
    assert "Not asked for: t: its access is token" in done.stdout.splitlines()


def test_findings_end_with_exit_code_1(folder: Path) -> None:
    assert run("lint", folder / "terms/near.json").exit_code == 0
    bad = {**CHRISTMAS, "schedule": {"from": "2030-02-01", "until": "2030-01-01"}}
    (folder / "bad.json").write_text(json.dumps(bad))
    done = run("lint", folder / "bad.json")
    assert done.exit_code == 1
    assert (
        f"{folder}/bad.json: error dates_reversed at schedule.until: it ends before it starts:"
        " it never applies" in done.stdout.splitlines()
    )
    found = json.loads(run("lint", folder / "bad.json", "--json").stdout)["findings"]
    assert found[0]["place"] == f"{folder}/bad.json"
    assert found[0]["code"] == "dates_reversed"


def test_lint_looks_at_all_files_together(folder: Path) -> None:
    alone = {**CHRISTMAS, "promotion_id": "alone", "combination": {"exclusive": True}}
    (folder / "terms" / "alone.json").write_text(json.dumps(alone))
    done = run("lint", folder / "terms")
    assert done.exit_code == 1 and "overlaps_exclusive" in done.stdout
    assert run("lint", folder / "terms/more.json").stdout.count("overlaps_exclusive") == 0


def test_sentences(folder: Path) -> None:
    done = run("sentence", folder / "terms")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["christmas", "save"]
    german = json.loads(run("sentence", folder / "terms", "--language", "de", "--json").stdout)
    assert german.keys() == {"christmas", "save"}
    assert german["save"] not in done.stdout


def test_the_schema() -> None:
    assert json.loads(run("schema").stdout) == json.loads(json.dumps(terms_schema()))
    assert len(run("schema", "--json").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("bad.json", {**NEAR, "titel": "x"}, "titel"),
        ("list.json", [NEAR, {**CHRISTMAS, "version": 0}], "[1].version"),
        ("twice.json", [CHRISTMAS, CHRISTMAS], "promotion_id"),
        ("text.json", "x", None),
    ],
)
def test_bad_terms_name_the_file_and_the_field(
    folder: Path, name: str, content: Any, field: str | None
) -> None:
    path = folder / name
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidInputError) as error:
        run("lint", path)
    assert error.value.field == field
    assert name in error.value.message


def test_other_bad_input(folder: Path) -> None:
    (folder / "empty").mkdir()
    near, cart = folder / "terms/near.json", folder / "cart.json"
    (folder / "holder.json").write_text('{"proven": 1}')
    for arguments, field in (
        (("lint", folder / "nothing.json"), "file"),
        (("lint", folder / "empty"), "paths"),
        (("explain", near, "--cart", cart, "--at", "tomorrow"), "--at"),
        (("explain", near, "--cart", cart, "--at", "2030-01-01T00:00:00"), "--at"),
        (("explain", near, "--cart", folder / "holder.json"), "proven"),
        (("explain", near, "--cart", cart, "--holder", folder / "holder.json"), "proven"),
        (
            ("explain", near, "--cart", cart, "--holder", folder / "holder.json", "--stranger"),
            "--stranger",
        ),
    ):
        with pytest.raises(InvalidInputError) as error:
            run(*arguments)
        assert error.value.field == field, arguments


def test_an_error_is_one_line_and_exit_code_2(folder: Path) -> None:
    (folder / "bad.json").write_text(json.dumps({**NEAR, "titel": "x"}))
    done = subprocess.run(
        [sys.executable, "-m", "sconto", "promotions", "lint", str(folder / "bad.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "titel" in done.stderr and "did you mean 'title'" in done.stderr
