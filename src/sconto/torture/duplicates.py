"""Everything twice: each request between hub and merchants comes 1 to 5 times, late, or unanswered.

In the end the hub has counted exactly what the buyers were told. Control: a hub that applies an
event again when it comes again.
"""

import random
from pathlib import Path

from sconto.demo.network import free_ports
from sconto.torture.alone import CONTROL
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, say
from sconto.torture.places import LOOPBACK, Place, make_place
from sconto.torture.proxy import FaultProxy, Faults
from sconto.torture.together import judged, together

#: Small enough that merchants must ask for more again and again.
CAP = 4000
CONTROL_ROUNDS = 5
SHOPS = 2
#: Acknowledged requests of a round.
REQUESTS = 100


def behind(kind: str, home: Path, faults: Faults) -> tuple[Place, FaultProxy]:
    """A server whose public URL is a proxy's."""
    public, own = free_ports(2)
    place = make_place(kind, home, port=public, bind=f"{LOOPBACK}:{own}")
    return place, FaultProxy(public, own, faults)


async def duplicates(options: Options, folder: Path) -> Outcome:
    """`--rounds` rounds of a hundred requests."""
    bound = Bound(options)

    async def trial(name: str, rounds: int, hub_flaw: str | None) -> Trial:
        faults = Faults(random.Random(options.seed))
        hub, proxy = behind("hub", folder / name / "hub", faults)
        pairs = [behind("merchant", folder / name / f"shop-{i}", faults) for i in range(SHOPS)]
        shops, proxies = [shop for shop, _ in pairs], [proxy, *(one for _, one in pairs)]
        for one in proxies:
            await one.start()
        try:
            async with (
                together(hub, shops, cap=CAP, hub_flaw=hub_flaw, seed=options.seed) as net,
                judged(net),
            ):
                faults.is_on = True
                for number in range(1, rounds + 1):
                    if bound.is_over:
                        break
                    await net.load.acknowledges(REQUESTS)
                    await net.settled()
                    net.trial.rounds = number
                    if net.trial.lost:
                        break
                    if number % 5 == 0:
                        say(f"{name}: {number}/{rounds}, {faults.counts}")
                await net.load.settle()
                await net.settled()
                faults.is_on = False
                await net.finish()
                net.trial.figures |= {key: float(n) for key, n in faults.counts.items()}
        finally:
            for one in proxies:
                await one.stop()
        return net.trial

    control = await trial(f"duplicates{CONTROL}", CONTROL_ROUNDS, "inbox")
    kept = await trial("duplicates", options.rounds, None)
    return outcome("duplicates", bound, kept, control, of=options.rounds)
