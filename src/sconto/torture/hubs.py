"""kill -9 of the hub, at random moments under load: its merchants sell on, and nothing is lost.

Control: merchants that give up a report when it cannot be delivered.
"""

import asyncio
from pathlib import Path

from sconto.torture.alone import CONTROL
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, say
from sconto.torture.together import judged, neighbours, together

CAP = 1_000_000
CONTROL_ROUNDS = 2
SHOPS = 2


async def hubs(options: Options, folder: Path) -> Outcome:
    """A third of `--kills`."""
    bound = Bound(options)

    async def trial(name: str, rounds: int, flaw: str | None) -> Trial:
        hub, shops = neighbours(folder / name, SHOPS)
        async with together(hub, shops, cap=CAP, flaw=flaw, seed=options.seed) as net, judged(net):
            trial, meanwhile = net.trial, 0
            for number in range(1, rounds + 1):
                if bound.is_over:
                    break
                await net.load.acknowledges(5)
                await asyncio.sleep(net.random.uniform(0.0, 0.4))
                hub.kill()
                before = len(net.observer.acknowledged)
                await net.load.acknowledges(5)  # nobody waits for the hub
                await hub.start_again()
                meanwhile += len(net.observer.acknowledged) - before
                trial.rounds = number
                if number % 10 == 0:
                    say(f"{name}: {number}/{rounds}, {len(net.observer.acknowledged)} acknowledged")
            trial.figures["acknowledged_without_hub"] = meanwhile
            await net.finish()
        return net.trial

    control = await trial(f"hubs{CONTROL}", CONTROL_ROUNDS, "forgetful")
    rounds = max(1, options.kills // 3)
    return outcome("hubs", bound, await trial("hubs", rounds, None), control, of=rounds)
