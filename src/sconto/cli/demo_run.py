"""What `sconto demo` does and shows; apart from the command, so that other commands start fast."""

import asyncio
import json
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from sconto.base.errors import LocalError
from sconto.base.money import format_money
from sconto.cli.output import out
from sconto.demo import journey as data
from sconto.demo.journey import DEMO_WINDOW, MERCHANTS, Journey
from sconto.demo.live import publish_live
from sconto.demo.network import Network, make_network
from sconto.demo.publish import brand_tenant, publish
from sconto.demo.replay import Replay
from sconto.demo.steps import walk
from sconto.demo.summary import summarise

#: How long the hub stays away with --kill-hub.
HUB_AWAY_S = 20.0


async def run(
    home: Path, *, once: bool, full: bool, days: int | None, kill_hub: bool, summary: Path
) -> None:
    started = time.perf_counter()
    with out().status("Reading The Complete Journey"):
        journey = await asyncio.to_thread(data.load_journey, _window(full=full, days=days))
    out().print(
        f"{len(journey.baskets):,} baskets, {len(journey.promotions):,} promotions, "
        f"{sum(len(b.redemptions) for b in journey.baskets):,} redemptions to come"
    )
    network = make_network(home, data.MERCHANTS)
    try:
        with out().status("Starting a hub, three merchants and a wallet server"):
            await network.start()
        with _progress() as bars:
            frames = await publish(network, journey, int(time.time()), _steps(bars, journey))
        out().print(f"set up in {time.perf_counter() - started:.1f} s\n")
        replay = Replay(network, journey, frames)
        walked = await walk(network, journey, replay, _say)
        rest = [basket for basket in journey.baskets if basket is not walked]
        with _progress() as bars:
            seconds = await _replay(network, replay, rest, bars, kill_hub=kill_hub)
        with out().status("Waiting until every server has told the others everything"):
            await network.wait_delivered()
        result = await summarise(network, journey, checkouts=replay.checkouts, seconds=seconds)
        summary.write_text(json.dumps(result, indent=2) + "\n")
        _show(result, summary)
        expected = sum(len(basket.redemptions) for basket in journey.baskets)
        if result["differences"] or result["redeemed"] != expected:
            raise LocalError(
                f"the servers do not agree, or did not redeem {expected}; see {summary}",
                code="demo_failed",
            )
        if not once:
            await _stay(network)
    finally:
        with out().status("Stopping the servers"):
            await network.stop()


async def _replay(
    network: Network, replay: Replay, rest: list[Any], bars: Progress, *, kill_hub: bool
) -> float:
    task = bars.add_task("checkouts", total=len(rest))
    done = 0
    restart: asyncio.Task[None] | None = None

    def advance() -> None:
        nonlocal done, restart
        done += 1
        bars.advance(task)
        if kill_hub and done == len(rest) // 2:
            restart = asyncio.create_task(_kill_and_restart(network, bars))

    seconds = await replay.run(rest, advance)
    if restart is not None:
        await restart
    return seconds


async def _kill_and_restart(network: Network, bars: Progress) -> None:
    network.hub.kill()
    bars.print(f"the hub was killed; back in {HUB_AWAY_S:.0f} s, the merchants sell on")
    await asyncio.sleep(HUB_AWAY_S)
    network.hub.start()
    await network.wait_ready(network.hub)
    bars.print("the hub is back")


def _window(*, full: bool, days: int | None) -> Any:
    if full:
        return None
    first, last = DEMO_WINDOW
    return (first, last if days is None else first + timedelta(days=days - 1))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=out(),
    )


def _steps(bars: Progress, journey: Journey) -> Any:
    totals = {
        "brands": len({brand_tenant(one.brand) for one in journey.promotions.values()}),
        "promotions": len(journey.promotions),
        "acceptances": MERCHANTS,
        "frames": MERCHANTS,
    }

    def step(what: str) -> Any:
        task = bars.add_task(what, total=totals[what])
        return lambda: bars.advance(task)

    return step


def _say(step: str, evidence: dict[str, Any]) -> None:
    out().print(step, style="bold")
    for name, value in evidence.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        out().print(f"   {name}: {shown}", markup=False)


def _show(result: dict[str, Any], summary: Path) -> None:
    table = Table("", "baskets", "clipped", "presented", "applied", "redeemed", "discount")
    for name, counts in [("total", result), *result["servers"].items()]:
        table.add_row(
            name,
            f"{counts['baskets']:,}" if "baskets" in counts else "-",
            *(f"{counts[k]:,}" for k in ("clipped", "presented", "applied", "redeemed")),
            format_money(counts["discount_minor"], "USD"),
        )
    out().print()
    out().print(table)
    agree = "agree on every count and every cent"
    if result["differences"]:
        agree = f"differ in {len(result['differences'])} places"
    out().print(
        f"hub, merchants and wallet {agree}; {result['checkouts']:,} checkouts in "
        f"{result['seconds']} s, {result['checkouts_per_second']} a second; see {summary}"
    )


async def _stay(network: Network) -> None:
    live = await publish_live(network)
    folder = network.folder / "keys"
    folder.mkdir(mode=0o700)
    keys = {
        "brand": (network.hub.url, live.brand_key),
        "shopper": (network.wallet.url, live.shopper_key),
        **{f"till-{i}": (network.merchants[i].url, key) for i, key in enumerate(live.till_keys)},
    }
    out().print("\nThe servers are up; Ctrl-C stops them.", style="bold")
    for server in network.servers:
        line = f"   {server.name:<11} {server.url}   operator's key: {server.home / 'api-key'}"
        out().print(line, markup=False)
    out().print("\nClick through it (sign in with the key in the file):", style="bold")
    for name, (url, key) in keys.items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(key + "\n")
        out().print(f"   {name:<11} {url}/login   key: {file}", markup=False)
    gallery = f"{network.hub.url}/gallery/{live.frame_ids[0].rpartition(';')[2]}"
    out().print(f"   1. clip:       {gallery}", markup=False)
    out().print(f"   2. wallet:     {network.wallet.url}/tokens", markup=False)
    out().print(
        f"   3. checkout:   {network.merchants[0].url}/checkout   (type the handle)", markup=False
    )
    promotion = f"{network.hub.url}/promotions/{live.terms.promotion_id}"
    out().print(f"   4. statistics: {promotion}", markup=False)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
