"""`python -m sconto.torture [names…]`: one JSON object a line; 1 when a promise was broken, a
control did not fail, or a campaign could not go on.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sconto.base.errors import ScontoError
from sconto.torture.caps import caps
from sconto.torture.disk import disk
from sconto.torture.duplicates import duplicates
from sconto.torture.hubs import hubs
from sconto.torture.kills import kills
from sconto.torture.last import last, last_shared
from sconto.torture.outcome import Campaign, Options, Outcome, line, say
from sconto.torture.partitions import partitions
from sconto.torture.postgres import postgres
from sconto.torture.power import power
from sconto.torture.syncs import syncs

CAMPAIGNS: dict[str, Campaign] = {
    "kills": kills,
    "hubs": hubs,
    "syncs": syncs,
    "power": power,
    "disk": disk,
    "partitions": partitions,
    "duplicates": duplicates,
    "postgres": postgres,
    "caps": caps,
    "last": last,
    "last-shared": last_shared,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is named, or everything."""
    options = Options()
    parser = argparse.ArgumentParser(prog="python -m sconto.torture", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CAMPAIGNS)}; none: all")
    parser.add_argument("--minutes", type=float, default=options.minutes, help="of a campaign")
    for name in ("kills", "cuts", "partitions", "rounds", "last", "cap", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(options, name))
    parser.add_argument("--away", type=float, default=options.away_s, help="seconds without a hub")
    given = vars(parser.parse_args(arguments))
    names, away_s = given.pop("names") or list(CAMPAIGNS), given.pop("away")
    if unknown := sorted(set(names) - CAMPAIGNS.keys()):
        parser.error(f"no campaign {unknown[0]!r}; there are {', '.join(CAMPAIGNS)}")
    if min(*given.values(), away_s) <= 0:
        parser.error("numbers are above zero")
    options = Options(away_s=away_s, **given)
    results = []
    for name in names:
        say(f"{name}: begins")
        result = run(name, options)
        print(line(result), flush=True)
        results.append(result)
    return 0 if all(one.is_good for one in results) else 1


def run(name: str, options: Options) -> Outcome:
    """One campaign in a folder of its own; an error that nobody expected ends it."""
    folder = Path(tempfile.mkdtemp(prefix="sconto-torture-"))
    try:
        return asyncio.run(CAMPAIGNS[name](options, folder))
    except ScontoError as error:
        return Outcome(
            campaign=name,
            rounds=0,
            of=0,
            acknowledged=0,
            lost=0,
            overspent=0,
            control=None,
            seconds=0.0,
            errors=[f"it could not be run: {msgspec.json.encode(str(error)).decode()[:500]}"],
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
