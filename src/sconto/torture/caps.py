"""A cap over three merchants: the hub is away, one merchant is gone, one returns from a backup.

1. All sell. A backup of merchant 1 is made, and all sell on.
2. The hub is killed, and stays away. The merchants sell on from what they have. Meanwhile
   merchant 1 loses its disk, and is restored from the old backup; merchant 2 ends for ever.
3. The hub comes back, and its operator writes off what merchant 2 held. The others sell until
   nothing is left.
4. Redemptions, those included that only a lost disk knew of, are no more than the cap. Each one
   that was acknowledged is settled at the hub, or its buyer has a receipt that the merchant signed,
   and its unit was written off. All books balance, by `sconto … ledger check` too.

Control: merchants that take units from an allotment whether they are there or not.
"""

import asyncio
from pathlib import Path

from sconto.base.errors import InvalidInputError, UnavailableError
from sconto.base.keys import KeySet, verify_compact
from sconto.client import HubClient
from sconto.redemption import RECEIPT_TYPE
from sconto.servers.config import load_home
from sconto.torture import stored
from sconto.torture.alone import CONTROL
from sconto.torture.observer import lost, overspent
from sconto.torture.outcome import Bound, Options, Outcome, outcome, say
from sconto.torture.places import PROMOTION
from sconto.torture.together import Together, judged, neighbours, together

SHOPS = 3
RESTORED, GONE = 1, 2
BUYERS = 24
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
        await net.load.acknowledges(5 * CONTROL_CAP)
        await net.finish()
    control = net.trial
    hub, shops = neighbours(folder / "caps", SHOPS)
    async with (
        together(hub, shops, cap=options.cap, buyers=BUYERS, seed=options.seed) as net,
        judged(net),
    ):
        await _story(net, options.away_s, bound)
    return outcome("caps", bound, net.trial, control, of=1)


async def _story(net: Together, away_s: float, bound: Bound) -> None:
    trial, observer, load = net.trial, net.observer, net.load
    await load.acknowledges(net.cap // 50)
    backup = net.shops[RESTORED].home.with_name("backup.db")
    await asyncio.to_thread(net.shops[RESTORED].back_up, backup)
    await load.acknowledges(net.cap // 50)
    await net.settled()
    net.hub.kill()
    say("caps: the hub is away")
    before = len(observer.redemptions())
    await asyncio.sleep(away_s / 3)
    load.gone.add(GONE)
    net.shops[GONE].kill()
    lost_disk = await _restored(net, backup)
    await asyncio.sleep(away_s * 2 / 3)
    trial.figures["redeemed_without_hub"] = len(observer.redemptions()) - before
    await net.hub.start_again()
    trial.figures["settled_after_return_s"] = round(await net.settled(), 1)
    async with HubClient(net.hub.address, net.hub.api_key) as client:
        path = f"/v1/merchants/merchant-{GONE}/write-offs"
        await client.call("POST", path, {"promotion_ids": [PROMOTION]})
    say(f"caps: {len(observer.redemptions())} redeemed, what the lost merchant held is written off")
    await _sell_out(net, bound)
    await net.finish()
    trial.rounds = 1
    await _judge(net, lost_disk)


async def _restored(net: Together, backup: Path) -> str:
    """A merchant loses its disk, and goes on from a backup; gives where the lost disk is."""
    shop, observer = net.shops[RESTORED], net.observer
    shop.kill()
    lost_disk = await asyncio.to_thread(shop.put_back, backup)
    # By now the observer has written down every answer that it got from before.
    net.forgotten |= observer.redemptions(RESTORED)
    for request, _ in observer.acknowledged.values():
        if request.shop == RESTORED:
            observer.touched.add(request.id)
    await shop.start_again()
    say("caps: a merchant is back from its backup, another one is gone")
    return lost_disk


async def _sell_out(net: Together, bound: Bound) -> None:
    """Until the buyers get no more of it."""
    quiet, before = 0, -1
    while quiet < QUIET_LOOKS:
        if bound.is_over:
            raise UnavailableError("the time was over before everything was sold")
        await asyncio.sleep(LOOK_S)
        now = len(net.observer.redemptions())
        quiet = quiet + 1 if now == before else 0
        before = now


async def _judge(net: Together, lost_disk: str) -> None:
    """Look into every datastore, those on lost disks too: they are still there for us."""
    trial, observer = net.trial, net.observer
    urls = [net.hub.database_url, *(one.database_url for one in net.shops), lost_disk]
    read = [await asyncio.to_thread(stored.read, url) for url in urls]
    ever = observer.redemptions().union(*(one.redemptions for one in read))
    back = observer.reversed_redemptions().union(
        *({key for key, state in one.redemptions.items() if state == "reversed"} for one in read)
    )
    trial.overspent = overspent(ever, back, net.cap)
    hub, accounts = read[0], read[0].budgets[PROMOTION, ""]
    # What was taken back before the disk was lost holds no unit, and nobody claims it.
    standing = observer.redemptions() - observer.reversed_redemptions()
    unreported = lost(standing, hub.redemptions)
    without = lost(unreported, _receipted(net))
    trial.lost += len(without)
    if len(unreported) > accounts["written_off"]:
        trial.broken.append(f"{len(unreported)} unreported, {accounts['written_off']} written off")
    trial.figures |= {
        "cap": net.cap,
        "redeemed_net": len(ever - back),
        "spent_at_hub": accounts["spent"],
        "written_off": accounts["written_off"],
        "claimed_by_receipt": len(unreported) - len(without),
        "left": accounts["free"] + accounts["open"],
    }


def _receipted(net: Together) -> set[str]:
    """Redemptions for which a buyer has a receipt that names them, signed by the merchant."""
    return {
        redemption_id
        for i, shop in enumerate(net.shops)
        for keys in [KeySet(key.public for key in load_home(shop.home).keys)]
        for redemption_id, receipt in net.observer.receipts(i).items()
        if redemption_id in _named(keys, receipt)
    }


def _named(keys: KeySet, receipt: str) -> set[str]:
    try:
        said = verify_compact(keys, RECEIPT_TYPE, receipt, "receipt")
    except InvalidInputError:
        return set()
    return {one["redemption_id"] for one in said["redemptions"]}
