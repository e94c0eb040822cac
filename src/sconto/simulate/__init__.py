"""The simulation: a whole network in one process, from one seed, with everything that goes wrong.

In: a seed. Out: a `Run`: what was violated, a hash of everything that happened, how often each
fault happened. The servers' real handlers and a real SQLite run on a simulated clock, network,
writer and randomness; only the ports are replaced (`outside.py`). The same seed always gives the
same run: `python -m sconto.simulate --seed X` replays one, `make sim SEEDS=N` runs many.

    loop.py        an event loop with virtual time; a seed says who goes next
    outside.py     what the servers have of the world, replaced for the time of a run
    host.py        one server: its clock, its disk, its crashes
    network.py     requests and replies, lost, delayed, doubled, cut off
    nemesis.py     what goes wrong in a seed, and when
    stage.py       the parts of a network on one loop
    beginning.py   how servers are introduced, once for many seeds
    world.py       the course of a seed
    shoppers.py    the workload, and what shoppers were promised
    operators.py   what operators and brands do, and what is lost or forged
    guest.py       somebody else's code in the same weather
    auditor.py     what must hold after every commit, and when all is healed
    trace.py       what happened, as a hash and as the last events of each host
    campaign.py    many seeds, or one again: the command line
    ablations.py   safeguards taken out, which the auditor must notice

It knows all rooms and no room knows it. Read `world.py`, then `auditor.py`.
"""

from sconto.simulate.ablations import ABLATIONS
from sconto.simulate.guest import Guest
from sconto.simulate.world import Run, simulate

__all__ = ["ABLATIONS", "Guest", "Run", "simulate"]
