"""One merchant process, no hub anywhere: it sells, stops gracefully, survives kill -9."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from sconto.demo.network import free_ports

pytestmark = pytest.mark.timeout(120)
TERMS = {
    "promotion_id": "ten",
    "title": "10 % off",
    "currency": "USD",
    "benefits": [{"type": "percent_off", "basis_points": 1000}],
}
CART = {"currency": "USD", "lines": [{"id": "1", "sku": "a", "quantity": 2, "price_minor": 525}]}


class Shop:
    """A merchant's home, made and served by the command line."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        made = self.cli("init", "--url", self.url, "--json")
        self.key = json.loads(made.stdout)["api_key"]
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=10
        )
        self.process: subprocess.Popen[bytes] | None = None

    def cli(self, *arguments: str, key: str | None = None, file: str | None = None):
        return subprocess.run(
            [sys.executable, "-m", "sconto", "merchant", *arguments, "--home", str(self.home)],
            capture_output=True, text=True, input=file, check=False, timeout=60,
            env={**os.environ, **({"SCONTO_API_KEY": key} if key else {})},
        )  # fmt: skip

    def start(self) -> None:
        log = (self.home / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sconto", "merchant", "serve", "--home", str(self.home)],
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if self.http.get("/readyz").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError((self.home / "log").read_text())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def redeem(self, order_id: str) -> httpx.Response:
        return self.http.post("/v1/redemptions", json={"order_id": order_id, "cart": CART})


def running(home: Path):
    shop = Shop(home)
    shop.start()
    yield shop
    if shop.process is not None and shop.process.poll() is None:
        shop.stop(signal.SIGKILL)
    shop.http.close()


@pytest.fixture
def shop(tmp_path: Path):
    """A shop for a test that stops it."""
    yield from running(tmp_path / "shop")


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory: pytest.TempPathFactory):
    """One shop for all tests that leave it running."""
    yield from running(tmp_path_factory.mktemp("open") / "shop")


def publish(shop: Shop) -> None:
    done = shop.cli("promotion", "publish", "-", "--launch", key=shop.key, file=json.dumps(TERMS))
    assert done.returncode == 0, done.stderr


def test_a_merchant_sells_with_no_hub(open_shop: Shop):
    publish(open_shop)
    order = open_shop.redeem("o-1").json()
    assert (order["discount_minor"], order["total_minor"]) == (105, 945)
    counts = json.loads(open_shop.cli("statistics", "--json", key=open_shop.key).stdout)["totals"]
    assert (counts["redeemed"], counts["given_minor"]) == (1, 105)


def test_what_was_acknowledged_survives_kill_9_and_repeats_alike(shop: Shop):
    """Orders are sent while the process is killed; each that was answered is there, once."""
    publish(shop)
    answered: dict[str, dict] = {}
    stop = threading.Event()

    def sell(worker: int) -> None:
        number = 0
        with httpx.Client(
            base_url=shop.url, headers={"Authorization": f"Bearer {shop.key}"}, timeout=10
        ) as http:
            while not stop.is_set():
                order_id = f"{worker}-{number}"
                try:
                    answer = http.post("/v1/redemptions", json={"order_id": order_id, "cart": CART})
                except httpx.HTTPError:
                    return
                answered[order_id] = answer.json()
                number += 1

    workers = [threading.Thread(target=sell, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(1.5)
    assert shop.stop(signal.SIGKILL) == -signal.SIGKILL
    stop.set()
    for worker in workers:
        worker.join()
    assert len(answered) > 20
    shop.start()
    for order_id, reply in answered.items():
        assert shop.redeem(order_id).json() == reply
    shop.stop()
    check = json.loads(shop.cli("db", "check", "--json").stdout)
    assert check["chain_holds"]
    assert check["statistics_match"]
    assert check["entries"] >= len(answered)


def test_sigterm_answers_what_it_has_and_exits_0(shop: Shop):
    publish(shop)
    results: list[int] = []

    def sell(number: int) -> None:
        try:
            results.append(shop.redeem(f"o-{number}").status_code)
        except httpx.HTTPError:
            results.append(0)  # refused at the door: nothing was accepted

    threads = [threading.Thread(target=sell, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    code = shop.stop()
    for thread in threads:
        thread.join()
    assert code == 0
    assert set(results) <= {0, 201, 503}
    shop.start()
    total = shop.http.get("/v1/orders").json()["total"]
    assert total >= results.count(201)


def test_a_second_process_is_refused(open_shop: Shop):
    done = open_shop.cli("serve")
    assert done.returncode == 2
    assert done.stderr.startswith("sconto: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("init", "--url", "http://shop.example"), "is not encrypted"),
        (("promotion", "publish", "/nowhere.json"), "cannot be read"),
        (("promotion", "show", "nothing"), "there is no promotion nothing"),
        (("order", "nothing"), "there is no order nothing"),
        (("reverse", "o-1", "--id", "r-1", "--line", "x"), "is not LINE=UNITS"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    open_shop: Shop, arguments: tuple[str, ...], says: str
):
    done = open_shop.cli(*arguments, key=open_shop.key)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_command_without_a_key_says_how_to_give_one(open_shop: Shop):
    done = subprocess.run(
        [sys.executable, "-m", "sconto", "merchant", "order", "x", "--home", str(open_shop.home)],
        capture_output=True, text=True, check=False,
        env={k: v for k, v in os.environ.items() if k != "SCONTO_API_KEY"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "set SCONTO_API_KEY" in done.stderr


def test_logs_are_json_without_secrets(shop: Shop):
    shop.redeem("o-1")
    shop.http.get("/v1/orders/o-1?secret=canary")
    shop.stop()
    lines = (shop.home / "log").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert any(e["message"] == "request" and e["status"] == 201 for e in entries)
    assert "canary" not in "\n".join(lines)
    assert shop.key.split("_", 2)[2] not in "\n".join(lines)
