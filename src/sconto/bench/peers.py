"""Other promotion engines on the same carts and promotions: "2 or more of P: 10 % off P".

Each is driven by a program in `bench-peers/` with the engine's own interpreter. It reads a `Task`
as JSON from standard input and writes one JSON object for each size of set: the times of its
evaluations, cart after cart, and what each took off. What it took off must be what we take off,
for every evaluation that is timed; where it is not, its figures are not told. Prices are whole tens
of cents, so that no engine's way to round matters.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sconto.bench.evaluator import Evaluator, Job, Times, evaluator, times_of
from sconto.bench.figures import Figure, at_least, missing, say
from sconto.bench.groceries import Groceries, cart_of, load_groceries

#: An engine that takes minutes for a cart is given up after so long.
PATIENCE_S = 900
CARTS = 100


class Peer(msgspec.Struct, frozen=True):
    """Another engine."""

    name: str
    program: str
    #: Ours shall be so many times as fast, by size of set; 0: no target.
    targets: dict[int, float]


PEERS = (
    Peer("vendure", "vendure.js", {1000: 100, 10_000: 1000}),
    Peer("zen", "zen_rules.py", {10: 1, 100: 1, 1000: 1, 10_000: 1}),
    Peer("medusa_in_memory", "medusa.js", {}),
    Peer("oscar", "oscar_offers.py", {}),
)


class PeerLine(msgspec.Struct, frozen=True):
    """One line of a peer's cart."""

    sku: str
    quantity: int
    unit_minor: int


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer is given."""

    sizes: tuple[int, ...]
    #: How long to measure each size; one evaluation at least.
    seconds: float
    carts: list[list[PeerLine]]
    #: The first N have a promotion each in the set of N.
    products: tuple[str, ...]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer answers for one size."""

    size: int
    times_us: list[float]
    discounts: list[float]


def task_of(groceries: Groceries, sizes: tuple[int, ...], seconds: float) -> Task:
    """Real eight-line carts in whole tens of cents; a product costs the same in all of them."""
    prices: dict[str, int] = {}
    carts = []
    for body in groceries.carts[:CARTS]:
        lines = msgspec.json.decode(body)["lines"]
        for one in lines:
            price = one["amount_minor"] // one["quantity"] // 10 * 10
            prices.setdefault(one["sku"], max(10, price))
        carts.append([PeerLine(x["sku"], x["quantity"], prices[x["sku"]]) for x in lines])
    products = groceries.products[: max(sizes)]
    return Task(sizes=sizes, seconds=seconds, carts=carts, products=products)


def compare(
    sizes: tuple[int, ...], seconds: float, python: Path | None, place: Path
) -> Iterator[Figure]:
    """Ours and theirs; `python` has django-oscar and zen-engine, `place` is `bench-peers`."""
    task = task_of(load_groceries(), sizes, seconds)
    carts = tuple(
        cart_of(
            [
                {"id": str(n), "sku": x.sku, "quantity": x.quantity, "price_minor": x.unit_minor}
                for n, x in enumerate(cart, 1)
            ],
            store="1",
        ).decode()
        for cart in task.carts
    )
    for size in sizes:
        with evaluator(Job(size=size, carts=carts, products=task.products)) as ours:
            yield from _compare_at(size, task, ours, python, place)


def _compare_at(
    size: int, task: Task, ours: Evaluator, python: Path | None, place: Path
) -> Iterator[Figure]:
    name = f"two_of_p_among_{size}"
    at_size = msgspec.structs.replace(task, sizes=(size,))
    before = ours.round(task.seconds).every
    yield Figure(bench=f"{name}_ours", value=round(before.median_us, 1), unit="us")
    for peer in PEERS:
        bench = f"{name}_{peer.name}"
        theirs = run_peer(peer, at_size, python, place, ours.built.discounts)
        after = ours.round(task.seconds).every
        if isinstance(theirs, str):
            say(f"{bench}: {theirs}")
            yield missing(bench, "us", theirs)
        else:
            # The slower of our rounds before and after theirs: against ourselves.
            own = max(before.median_us, after.median_us)
            yield at_least(
                bench,
                theirs.median_us,
                "us",
                ratio=theirs.median_us / own,
                ratio_to=f"{name}_ours",
                target=peer.targets.get(size),
            )
        before = after


def run_peer(
    peer: Peer, task: Task, python: Path | None, place: Path, expected: tuple[int, ...]
) -> Times | str:
    """A peer's times for the one size of a task, or why there are none."""
    say(f"{peer.name} among {task.sizes[0]} ...")
    if peer.program.endswith(".js"):
        interpreter = shutil.which("node")
        if interpreter is None:
            return "Node.js is not installed"
        if not (place / "node_modules").is_dir():
            return f"its packages are not installed: npm ci in {place.name}/ did not work"
    elif python is None or not python.exists():
        return "the environment of requirements/bench.lock is not made"
    else:
        interpreter = str(python)
    try:
        done = subprocess.run(
            [interpreter, str(place / peer.program)],
            input=msgspec.json.encode(task),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {PATIENCE_S} s"
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return f"it failed: {' '.join(last)}"
    measured = msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)
    for number, discount in enumerate(measured.discounts):
        ours = expected[number % len(expected)]
        if discount != ours:
            return f"it takes {discount:g} off cart {number % len(expected)}, and we take {ours}"
    return times_of(measured.times_us)
