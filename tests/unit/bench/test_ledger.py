"""The ledger's benchmark: the shape of what it prints, and that its yardstick keeps the limit."""

import asyncio
from pathlib import Path

import pytest

from sconto.base.errors import ConflictError
from sconto.bench import latency, ledger, naive, network, together
from sconto.bench.buyers import promotions
from sconto.bench.figures import Figure, Options
from sconto.bench.groceries import cart_of
from sconto.cart.model import decode_cart
from sconto.servers.config import load_home
from sconto.servers.merchant.checkout import CheckoutRequest

CART = cart_of([{"id": "1", "sku": "a", "quantity": 2, "amount_minor": 999}], "1")
ALONE = ledger.Database("sqlite", 1, lambda name: None)
QUICK = Options(seconds=0.3, rounds=1, connections=4)


def check_shape(figures: list[Figure]) -> None:
    names = [figure.bench for figure in figures]
    assert len(set(names)) == len(names)
    for figure in figures:
        assert (figure.target is None) == (figure.holds is None)
        assert isinstance(figure.ratio, float) == isinstance(figure.ratio_to, str)
        if isinstance(figure.ratio_to, str):
            assert figure.ratio_to in names


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_redemptions_beside_the_naive_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: each row of the design's table has its target. Method: real, tiny servers."""
    monkeypatch.setattr(latency, "RATES", ((50, 60_000.0),))
    figures = list(ledger.rates(ALONE, (CART.decode(),), QUICK))
    check_shape(figures)
    by_name = {figure.bench: figure for figure in figures}
    assert by_name["redeem_sqlite_to_naive"].target == 10
    assert by_name["redeem_sqlite_to_noop"].target == 0.2
    assert by_name["redeem_sqlite_p99_at_50_per_s"].holds is True
    assert all(figure.value for figure in figures if not figure.bench.endswith("_cpu"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_of_64_buyers_gets_the_last_unit() -> None:
    (figure,) = ledger.last_unit(ALONE, 2)
    assert (figure.value, figure.target, figure.holds) == (2, 2, True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_hub_settles_every_report_that_is_counted() -> None:
    """Goal: no rows per second of rows that were parked. Method: it fails where one was not."""
    figures = list(together.ingest(30))
    check_shape(figures)
    assert figures[0].bench == "hub_ingest"
    assert (figures[0].value or 0) > 0


def test_the_naive_way_keeps_the_limit(tmp_path: Path) -> None:
    """Goal: the yardstick is right, only slow. Method: two orders for a single use."""
    network.prepare(tmp_path / "shop", [together.hot(1)])
    server = naive.Naive(load_home(tmp_path / "shop"))
    try:
        for number, is_sold in ((1, True), (2, False)):
            request = CheckoutRequest(order_id=f"o-{number}", cart=decode_cart(CART))
            decision = server.decide(request.cart, request.order_id, 0)
            rows = naive._rows(server.base.home.url, request, decision, 0)
            assert len(rows[1]) == 1
            if is_sold:
                server.keep(*rows)
            else:
                with pytest.raises(ConflictError, match="used up"):
                    server.keep(*rows)
    finally:
        server.leave()
        server.base.close()


def test_each_round_has_a_promotion_of_one_use() -> None:
    first, second = promotions(2)
    assert first.budget() == (1, None)
    assert first.access != second.access


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ledger.main(["sqlight"])
    assert "no part 'sqlight'; there are sqlite, postgresql" in capsys.readouterr().err


def test_a_lost_connection_ends_the_round() -> None:
    """Goal: no benchmark that hangs. Method: the server hangs up on a buyer."""
    from sconto.bench import buyers

    async def play() -> None:
        one = buyers._Round(2)
        one.lost(None)
        await one.done

    with pytest.raises(RuntimeError, match="hung up"):
        asyncio.run(play())
