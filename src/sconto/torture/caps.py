"""A cap over three merchants: the hub is away for a while, and one merchant never comes back.

1. All sell. The hub is killed, and stays away; the merchants sell on from what they have.
2. One merchant ends for ever. The hub comes back, and writes off what that merchant held.
3. The others sell until nothing is left. Redemptions, those that only the lost disk knew included,
   are no more than the cap, and the hub's books balance.

Control: merchants that take units from an allotment whether they are there or not.
"""

import asyncio
from pathlib import Path

from sconto.client import HubClient
from sconto.torture import stored
from sconto.torture.alone import CONTROL
from sconto.torture.observer import lost
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, say
from sconto.torture.places import PROMOTION
from sconto.torture.together import Together, judged, neighbours, together

SHOPS = 3
GONE = 2
CONTROL_CAP = 60
#: Pause between two looks at what is left, and how many looks without a change are the end.
LOOK_S = 1.0
QUIET_LOOKS = 15


async def caps(options: Options, folder: Path) -> Outcome:
    """Once, with `--cap` and `--away` seconds."""
    bound = Bound(options)
    control_name = f"caps{CONTROL}"
    hub, shops = neighbours(folder / control_name, SHOPS)
    async with (
        together(hub, shops, cap=CONTROL_CAP, flaw="guard", seed=options.seed) as net,
        judged(net),
    ):
        await net.load.acknowledges(10 * CONTROL_CAP)
        await net.finish()
    control = net.trial
    hub, shops = neighbours(folder / "caps", SHOPS)
    async with together(hub, shops, cap=options.cap, seed=options.seed) as net, judged(net):
        await _story(net, options.away_s, bound)
    return outcome("caps", bound, net.trial, control)


async def _story(net: Together, away_s: float, bound: Bound) -> Trial:
    trial, observer, load = net.trial, net.observer, net.load
    await load.acknowledges(100)
    await net.settled()
    net.hub.kill()
    say("caps: the hub is away")
    before = len(observer.redemptions())
    await asyncio.sleep(away_s / 2)
    load.gone.add(GONE)
    net.shops[GONE].kill()
    await asyncio.sleep(away_s / 2)
    trial.figures["redeemed_without_hub"] = len(observer.redemptions()) - before
    await net.hub.start_again()
    trial.figures["settled_after_return_s"] = round(await net.settled(), 1)
    async with HubClient(net.hub.address, net.hub.api_key) as client:
        path = f"/v1/merchants/merchant-{GONE}/write-offs"
        await client.call("POST", path, {"promotion_ids": [PROMOTION]})
    say(f"caps: {len(observer.redemptions())} redeemed, what the lost merchant held is written off")
    await _sell_out(net, bound)
    # Its disk is still there for us: what it acknowledged is on it, and covered by the write-off.
    gone = observer.redemptions(GONE)
    on_disk = await asyncio.to_thread(stored.read, net.shops[GONE].database_url)
    missing = len(lost(gone, on_disk.redemptions))
    await net.finish()
    hub = await net.at_hub()
    unreported = len(lost(gone, hub.redemptions))
    accounts = hub.budgets[PROMOTION]
    trial.lost += missing
    if unreported > accounts["written_off"]:
        trial.broken.append(f"{unreported} unreported, {accounts['written_off']} written off")
    used = len(observer.redemptions() - observer.reversed_redemptions())
    trial.rounds = 1
    trial.figures |= {
        "cap": net.cap,
        "redeemed_net": used,
        "spent_at_hub": accounts["spent"],
        "written_off": accounts["written_off"],
        "only_on_the_lost_disk": unreported,
        "left": accounts["free"] + accounts["open"],
    }
    return trial


async def _sell_out(net: Together, bound: Bound) -> None:
    """Until the buyers get no more of it."""
    quiet, before = 0, -1
    while quiet < QUIET_LOOKS and not bound.is_over:
        await asyncio.sleep(LOOK_S)
        now = len(net.observer.redemptions())
        quiet = quiet + 1 if now == before else 0
        before = now
