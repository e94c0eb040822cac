"""One merchant in four processes over one PostgreSQL: as exact as one, also when one is killed.

The campaign of a thousand rounds is in `sconto.torture` (`last-shared`).
"""

import collections
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy.engine import make_url

from sconto.demo.network import free_ports

ROUNDS = 3
BUYERS = 64
PROCESSES = 4
pytestmark = pytest.mark.timeout(300)
#: Nothing here is encrypted, and to read the certificates takes longer than a checkout.
TLS = ssl.create_default_context()
CART = {"currency": "EUR", "lines": [{"id": "1", "sku": "a", "quantity": 2, "price_minor": 500}]}


class Shop:
    """A merchant's home, served by four processes on PostgreSQL."""

    def __init__(self, home: Path, database_url: str) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        made = self.cli("init", "--url", self.url, "--database", database_url, "--json")
        self.key = json.loads(made.stdout)["api_key"]
        self.process: subprocess.Popen[bytes] | None = None

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sconto", "merchant", *arguments, "--home", str(self.home)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def client(self) -> httpx.Client:
        """One connection, so always to the same process."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=30,
            limits=httpx.Limits(max_connections=1),
            verify=TLS,
        )

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sconto", "merchant", "serve", "--home", str(self.home),
                 "--processes", str(PROCESSES), "--log-level", "warning"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.until_served()

    def until_served(self) -> None:
        """Wait until every process answers; connections are spread over them by chance."""
        for client in self.one_to_each():
            client.close()

    def one_to_each(self) -> list[httpx.Client]:
        """A client of each process."""
        found: dict[int, httpx.Client] = {}
        until = time.monotonic() + 60
        while len(found) < PROCESSES and time.monotonic() < until:
            client = self.client()
            try:
                number = client.get("/readyz", timeout=5).json()["process"]
            except httpx.HTTPError:
                client.close()
                time.sleep(0.05)
                continue
            if number in found:
                client.close()
            else:
                found[number] = client
        assert sorted(found) == list(range(PROCESSES)), (self.home / "log").read_text()
        return [found[number] for number in sorted(found)]

    def children(self) -> list[int]:
        assert self.process is not None
        parent = self.process.pid
        return [int(x) for x in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0

    def launch(self, promotion_id: str, uses: int) -> None:
        terms = {
            "promotion_id": promotion_id,
            "title": promotion_id,
            "currency": "EUR",
            "benefits": [{"type": "percent_off", "basis_points": 1000}],
            "limits": [{"uses": uses}],
        }
        with self.client() as client:
            made = client.post("/v1/promotions", json={"terms": terms, "launch": True})
            assert made.status_code == 201, made.text

    def act(self, promotion_id: str, act: str, document: Any = None) -> None:
        with self.client() as client:
            done = client.post(f"/v1/promotions/{promotion_id}/{act}", json=document or {})
            assert done.status_code == 200, done.text

    def check(self) -> None:
        """The books balance, the journal's chain holds, the statistics are its fold."""
        books = self.cli("ledger", "check", "--json")
        assert books.returncode == 0, books.stderr
        journal = self.cli("db", "check", "--json")
        assert journal.returncode == 0, journal.stderr


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    plain = make_url(postgres_url).set(drivername="postgresql").render_as_string()
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("CREATE DATABASE processes")
        yield make_url(postgres_url).set(database="processes").render_as_string()
        connection.execute("DROP DATABASE processes WITH (FORCE)")


@pytest.fixture(scope="module")
def shop(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("processes") / "shop", database)
    shop.start()
    yield shop
    if shop.process is not None and shop.process.poll() is None:
        shop.stop()


def at_once(calls: list[Any]) -> list[Any]:
    """The results of functions that start together, each in a thread."""
    gate = threading.Barrier(len(calls))

    def run(call: Any) -> Any:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [one.result() for one in [pool.submit(run, call) for call in calls]]


def redeem(client: httpx.Client, order_id: str) -> httpx.Response:
    return client.post("/v1/redemptions", json={"order_id": order_id, "cart": CART})


def uses_of(answer: httpx.Response) -> int:
    assert answer.status_code == 201, answer.text
    return len(answer.json()["redemptions"])


def test_sqlite_has_one_process(tmp_path: Path) -> None:
    home = tmp_path / "shop"
    command = [sys.executable, "-m", "sconto", "merchant"]
    subprocess.run(
        [*command, "init", "--home", str(home), "--url", "http://127.0.0.1:9"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    refused = subprocess.run(
        [*command, "serve", "--home", str(home), "--processes", "2"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "need PostgreSQL" in refused.stderr and "Traceback" not in refused.stderr


def test_a_change_is_known_to_every_process_at_once(shop: Shop) -> None:
    """Goal: what one process has changed acts in all. Method: each is asked, by its connection."""
    clients = shop.one_to_each()
    key = (
        clients[0]
        .post("/v1/tenants/operator/keys", json={"scopes": ["evaluate"], "label": "till"})
        .json()
    )
    shop.launch("change", 1000)
    with_key = {"Authorization": f"Bearer {key['api_key']}"}

    def discounts(headers: dict[str, str] | None = None) -> list[Any]:
        answers = [c.post("/v1/evaluations", json={"cart": CART}, headers=headers) for c in clients]
        return [a.json().get("evaluation", a.json()).get("totals", a.json()) for a in answers]

    until(lambda: all(one.get("discount_minor") == 100 for one in discounts(with_key)))
    clients[1].post("/v1/promotions/change/end", json={})
    clients[2].delete(f"/v1/tenants/operator/keys/{key['key_id']}")
    until(lambda: all(one.get("discount_minor") == 0 for one in discounts()))
    until(lambda: all(one.get("status") == 401 for one in discounts(with_key)), within_s=3)
    for client in clients:
        client.close()


def until(holds: Any, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a hub's operator."""
    home = ["--home", str(tmp_path / "hub")]
    ports = free_ports(2)
    url, frames_url = (f"http://127.0.0.1:{port}" for port in ports)
    command = [sys.executable, "-m", "sconto", "hub"]
    made = subprocess.run(
        [*command, "init", *home, "--url", url, "--frames-url", frames_url, "--json"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "serve", *home], stdout=log, stderr=log)
    key = json.loads(made.stdout)["api_key"]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:

        def is_up() -> bool:
            try:
                return client.get("/readyz").status_code == 200
            except httpx.HTTPError:
                return False

        until(is_up)
        yield client
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_the_last_unit_has_one_buyer(shop: Shop) -> None:
    """Each round gives one unit to 64 buyers at all processes who all want it at once."""
    clients = [shop.client() for _ in range(BUYERS - PROCESSES)] + shop.one_to_each()
    shop.launch("last", 1)
    winners: collections.Counter[int] = collections.Counter()
    for number in range(ROUNDS):
        if number:
            shop.act("last", "top-ups", {"top_up_id": f"t-{number}", "uses": 1})
        answers = at_once(
            [partial(redeem, client, f"last-{number}-{i}") for i, client in enumerate(clients)]
        )
        winners[sum(map(uses_of, answers))] += 1
    shop.act("last", "end")
    for client in clients:
        client.close()
    assert winners == {1: ROUNDS}


def test_one_order_at_all_processes_at_once_is_one_redemption(shop: Shop) -> None:
    """Goal: a repeated order gets the same reply, another cart under its id is a conflict."""
    clients = shop.one_to_each()
    shop.launch("same", 100)
    for number in range(10):
        answers = at_once([partial(redeem, c, f"same-{number}") for c in clients])
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.text for answer in answers}) == 1
        other = f"other-{number}"
        carts = [dict(CART, lines=[dict(CART["lines"][0], quantity=n)]) for n in range(2, 6)]
        answers = at_once(
            [
                partial(c.post, "/v1/reservations", json={"order_id": other, "cart": cart})
                for c, cart in zip(clients, carts, strict=True)
            ]
        )
        assert sorted(a.status_code for a in answers) == [201, 409, 409, 409]
        ends = at_once(
            [
                partial(c.post, f"/v1/reservations/{other}/{act}")
                for c, act in zip(clients, ("redeem", "release", "redeem", "release"), strict=True)
            ]
        )
        assert sorted(a.status_code for a in ends) == [200, 200, 409, 409]
    shop.act("same", "end")
    for client in clients:
        client.close()


def test_a_hub_hears_once_of_what_every_process_redeemed(shop: Shop, hub: httpx.Client) -> None:
    """Goal: allotments, events and reports are the merchant's, whichever process they come to.

    Method: all processes spend a hub's promotion to its last use, which takes several grants; the
    hub then has settled exactly the cap, without a dispute.
    """
    cap = 40
    clients = shop.one_to_each()
    made = clients[0].post("/v1/peers", json={"url": str(hub.base_url), "kind": "hub",
                                              "tenant_id": "hub"})  # fmt: skip
    assert made.status_code == 201, made.text
    made = hub.post("/v1/peers", json={"url": shop.url, "kind": "merchant", "tenant_id": "shop"})
    assert made.status_code == 201, made.text
    terms = {
        "promotion_id": "hub",
        "title": "hub",
        "currency": "EUR",
        "benefits": [{"type": "percent_off", "basis_points": 1000}],
        "limits": [{"uses": cap}],
    }
    made = hub.post("/v1/promotions", json={"terms": terms, "launch": True})
    assert made.status_code == 201, made.text

    def is_accepted() -> bool:
        wanted = {"hub": str(hub.base_url), "promotion_ids": ["hub"]}
        return clients[1].post("/v1/acceptances", json=wanted).status_code == 200

    until(is_accepted)
    used = 0

    def is_used_up() -> bool:
        nonlocal used
        names = [f"hub-{time.monotonic_ns()}-{number}" for number in range(PROCESSES)]
        calls = [partial(redeem, c, n) for c, n in zip(clients, names, strict=True)]
        used += sum(map(uses_of, at_once(calls)))
        return used >= cap

    until(is_used_up, within_s=60)
    assert sum(map(uses_of, at_once([partial(redeem, c, "after") for c in clients]))) == 0

    def is_settled() -> bool:
        spent = hub.get("/v1/promotions/hub").json()["budget"]["uses"]["spent"]
        assert spent <= cap
        return bool(spent == cap)

    until(is_settled)
    assert used == cap
    assert hub.get("/v1/exchange").json()["parked"] == []
    for client in clients:
        client.close()


def test_a_killed_process_loses_nothing_and_strands_nothing(shop: Shop) -> None:
    """Goal: all that was acknowledged is there, and the whole cap can be used.

    Method: buyers send more orders than there are units while processes are killed; an order
    without an answer is sent again. In the end each answer can be had again, word for word.
    """
    cap, extra, buyers = 150, 50, 16
    shop.launch("killed", cap)
    answered: dict[str, str] = {}
    wanted = iter([f"killed-{number}" for number in range(cap + extra)])
    taking = threading.Lock()
    deadline = time.monotonic() + 60
    gone = threading.Event()

    def buy() -> None:
        client = shop.client()
        while True:
            with taking:
                order_id = next(wanted, None)
            if order_id is None:
                break
            while order_id not in answered:
                try:
                    answer = redeem(client, order_id)
                except httpx.HTTPError:
                    assert time.monotonic() < deadline
                    client.close()
                    client = shop.client()
                    time.sleep(0.01)
                    continue
                if answer.status_code == 503:
                    assert time.monotonic() < deadline
                    continue
                assert answer.status_code == 201, answer.text
                answered[order_id] = answer.text
        client.close()

    def kill() -> None:
        rng = random.Random(4)
        for progress in (30, 70, 110):
            while len(answered) < progress:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.kill(rng.choice(shop.children()), signal.SIGKILL)
        gone.set()

    at_once([buy] * buyers + [kill])
    assert gone.is_set() and len(answered) == cap + extra
    assert sum(len(json.loads(text)["redemptions"]) for text in answered.values()) == cap
    shop.until_served()
    with shop.client() as client:
        for order_id, text in answered.items():
            assert redeem(client, order_id).text == text
    shop.stop()
    shop.check()
    log = (shop.home / "log").read_text()
    assert log.count("a process ended") == 3
    assert "Traceback" not in log, log
