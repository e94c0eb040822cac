"""The engine's benchmark: the shape of what it prints, its sets, and that it believes no peer."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sconto.bench import engine, peers, promotion_sets
from sconto.bench.evaluator import Built, Job, Round, Times, evaluator, times_of
from sconto.bench.figures import Figure, line, missing, within
from sconto.bench.groceries import Groceries, cart_of
from sconto.bench.peers import Peer, PeerLine, Task, run_peer
from sconto.bench.promotion_sets import Coupon, Recipe, documents
from sconto.terms import decode_terms, terms_digest

PLACE = Path("bench-peers")


def small_recipe(coupons: int = 3) -> Recipe:
    lines = [
        {"id": str(n), "sku": f"p{n}", "quantity": n, "amount_minor": 100 * n} for n in range(1, 9)
    ]
    cart = cart_of(lines, "s1").decode()
    made = tuple(Coupon(f"c{n}", "1.00 off", 100, (f"p{n}", "p8")) for n in range(coupons))
    return Recipe(made, tuple(f"p{n}" for n in range(1, 60)), ("s1", "s2"), (cart,), cart)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert engine.main([*arguments, "--seconds", "0.01", "--rounds", "1"]) == 0
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def test_each_set_prints_its_figures_one_object_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Goal: the shape that the issue states. Method: tiny sets in real processes."""
    monkeypatch.setattr(engine, "recipe_of", small_recipe)
    monkeypatch.setattr(engine, "MIDDLE", 12)
    figures = run(capsys, "--sizes", "4", "12", "20", "--peer-sizes", "--compiled", "src")
    names = [figure["bench"] for figure in figures]
    for size in (4, 12, 20):
        expected = {"noop", "ten_candidates", "all_carts", "all_carts_p99", "candidates"}
        assert {f"evaluate_among_{size}_{one}" for one in expected} <= set(names)
        assert {f"compile_{size}", f"memory_{size}"} <= set(names)
    assert len(set(names)) == len(names)
    for figure in figures:
        assert {"bench", "value", "unit", "target", "holds"} <= figure.keys()
        assert (figure["value"] is None) == ("reason" in figure)
        assert (figure["target"] is None) == (figure["holds"] is None)
        assert ("ratio" in figure) == ("ratio_to" in figure)
        if "ratio_to" in figure:
            assert figure["ratio_to"] in names
    assert next(f for f in figures if f["bench"] == "evaluate_200_lines_of_10000_units")["target"]
    # `src` is not compiled, and the benchmark says so.
    of = {figure["bench"]: figure for figure in figures}
    assert of["engine_compiled_modules"]["value"] == 0
    assert "no compiled" in of["evaluate_among_12_ten_candidates_compiled"]["reason"]


def test_the_compiled_engine_stands_beside_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: its ratio is of the same rounds, and only where it gives the same discounts.

    Method: rounds of known times, and an evaluator that is no process.
    """
    monkeypatch.setattr(engine, "MIDDLE", 12)

    def built(modules: int, *discounts: int) -> Built:
        return Built(
            compile_s=1,
            memory_mb=1,
            promotions=12,
            compiled_modules=modules,
            candidates=1,
            carts_of_ten=1,
            applied_of_ten=1,
            discounts=discounts,
        )

    def rounds(ten: float) -> list[Round]:
        one = Times(median_us=ten, p99_us=ten, count=1)
        return [Round(noop=one, ten=one, every=one, big=one)]

    def figures(fast: Built) -> dict[str, Figure]:
        other: Any = SimpleNamespace(built=fast)
        found = engine._compiled(built(0, 5), rounds(200), other, rounds(100))
        return {figure.bench: figure for figure in found}

    same = figures(built(16, 5))
    assert same["engine_compiled_modules_compiled"].value == 16
    ten = same["evaluate_among_12_ten_candidates_compiled"]
    assert (ten.value, ten.ratio, ten.ratio_to) == (100, 0.5, ten.bench.removesuffix("_compiled"))
    big = same["evaluate_200_lines_of_10000_units_compiled"]
    assert (big.value, big.unit) == (0.1, "ms")
    assert len(same) == 5
    wrong = figures(built(16, 6))
    assert wrong["evaluate_among_12_ten_candidates_compiled"].reason == "it gives other discounts"
    assert len(wrong) == 2


def test_other_engines_that_are_not_there_are_named_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Goal: a machine without Node.js or the other environment still measures ours."""
    lines = [{"id": "1", "sku": "p1", "quantity": 2, "amount_minor": 999}]
    small = Groceries((cart_of(lines, "s1"),), ("p1", "p2"))
    monkeypatch.setattr(peers, "load_groceries", lambda: small)
    nowhere = ["--peers", str(tmp_path), "--peers-python", str(tmp_path / "python")]
    figures = run(capsys, "--sizes", "--peer-sizes", "2", *nowhere)
    ours, *theirs = figures
    assert ours["bench"] == "two_of_p_among_2_ours"
    assert ours["value"] > 0
    assert [one["bench"] for one in theirs] == [
        "two_of_p_among_2_vendure", "two_of_p_among_2_zen", "two_of_p_among_2_medusa_in_memory",
        "two_of_p_among_2_oscar",
    ]  # fmt: skip
    assert all(one["value"] is None and one["reason"] for one in theirs)


def test_a_peer_is_believed_only_if_it_takes_off_what_we_do(tmp_path: Path) -> None:
    """Goal: no time of an engine that computes something else. Method: peers of one line."""
    answer = '{"size": 1, "times_us": [2.0, 4.0, 3.0], "discounts": [20, 5, 20]}'
    (tmp_path / "peer.py").write_text(f"print({answer!r})")
    (tmp_path / "broken.py").write_text("raise SystemExit('no licence')")
    task = Task(sizes=(1,), seconds=0.01, carts=[[PeerLine("a", 2, 100)]], products=("a",))
    python = Path(sys.executable)
    peer, broken = Peer("peer", "peer.py", {}), Peer("broken", "broken.py", {})
    assert run_peer(peer, task, python, tmp_path, (20, 5)) == Times(
        median_us=3.0, p99_us=4.0, count=3
    )
    assert run_peer(peer, task, python, tmp_path, (20, 6)) == "it takes 5 off cart 1, and we take 6"
    assert run_peer(broken, task, python, tmp_path, (20,)) == "it failed: no licence"


def test_the_peers_programs_are_there() -> None:
    root = Path(__file__).parents[3] / PLACE
    assert all((root / peer.program).is_file() for peer in peers.PEERS)
    assert '"resolved"' not in (root / "package-lock.json").read_text()


def test_sets_are_valid_different_promotions_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: N promotions are N; a larger set begins with the smaller; beyond `REAL` no real goods.

    Method: decode two small sets strictly.
    """
    monkeypatch.setattr(promotion_sets, "REAL", 60)
    recipe = small_recipe()
    terms = [decode_terms(body) for body in documents(recipe, 120)]
    assert len({terms_digest(one) for one in terms}) == 120
    kinds = {one.promotion_id.split("-")[0] for one in terms}
    assert kinds == {"two", "get", "cart", "coupon"}
    assert terms[:30] == [decode_terms(body) for body in documents(recipe, 30)]
    beyond = b"".join(list(documents(recipe, 120))[60:])
    assert b'"p1"' not in beyond
    assert b'"s1"' not in beyond


def test_an_evaluator_that_ends_is_an_error() -> None:
    job = Job(size=1, carts=("no JSON",), products=("a",))
    with pytest.raises(RuntimeError, match="an evaluator ended"), evaluator(job):
        pass


def test_times_are_medians_and_the_99th_of_a_hundred() -> None:
    measured = times_of([float(n) for n in range(200, 0, -1)])
    assert (measured.median_us, measured.p99_us, measured.count) == (100.5, 199.0, 200)


def test_a_ratio_within_its_target_holds() -> None:
    assert within("b", 2.0, "us", ratio=1.3, ratio_to="a", target=1.3).holds
    assert within("b", 2.0, "us", ratio=1.31, ratio_to="a", target=1.3).holds is False
    assert within("b", 2.0, "us", ratio=1.31, ratio_to="a", target=None).holds is None
    assert json.loads(line(missing("b", "us", "none"))) == {
        "bench": "b", "value": None, "unit": "us", "target": None, "holds": None, "reason": "none",
    }  # fmt: skip
