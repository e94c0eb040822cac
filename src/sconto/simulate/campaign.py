"""Run seeds of the simulation, or replay one.

A seed is a whole network in which everything fails; each has its own faults. The end is 1 when
something was violated, or when something that must happen in so many seeds has not.

  --seeds 20000       that many, from --first on
  --seed 4711         one seed again, with the last events of each host
  --ablation inbox    with a safeguard taken out: then seeds must fail
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from functools import partial

from sconto.simulate.ablations import ABLATIONS
from sconto.simulate.world import Run, simulate

#: A campaign of at least this many seeds must have seen everything in `MUST_HAPPEN`.
CAMPAIGN = 500
MUST_HAPPEN = (
    "request_lost request_late request_doubled request_cut reply_lost reply_late reply_reset "
    "reply_cut clogged refused_connection timed_out partition one_way swizzle skew disk_full "
    "crash_kill crash_power_cut crash_before_commit crash_before_reply crash_rotation "
    "journal_clipped journal_reserved journal_redeemed journal_released journal_expired "
    "journal_reversed journal_refused refused_allotment_exhausted repeated calm "
    "topped_up revoked wrote_off late_report declined closed reversed_after_close "
    "presented_elsewhere restored_merchant restored_hub claimed_by_receipt greedy "
    "old_copy_noticed old_copy_of_all_that_was_told disputed_beyond_grant "
    "moved moved_and_used move_refused counter_granted counter_used_up day_passed "
    "told_limit_reached shopper_limited"
).split()
PROGRESS_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 1 when something was violated or never happened."""
    parser = argparse.ArgumentParser(
        prog="python -m sconto.simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds (200)")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", help="replay this one seed")
    parser.add_argument("--ablation", choices=sorted(ABLATIONS), help="take a safeguard out")
    parser.add_argument("--processes", type=int, default=2, help="how many at once (2)")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        run = simulate(options.seed, options.ablation)
        _tell(run, options.ablation)
        _say(f"trace {run.trace_hash}, {run.steps} steps, {run.simulated_s:.1f} simulated s")
        return bool(run.violations)
    return _campaign(options)


def _campaign(options: argparse.Namespace) -> int:
    began = told = time.monotonic()
    counts: Counter[str] = Counter()
    failed: list[str] = []
    done = steps = 0
    simulated_s = 0.0
    seeds = [str(number) for number in range(options.first, options.first + options.seeds)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for run in pool.imap_unordered(partial(_run, options.ablation), seeds, chunksize=4):
            done += 1
            steps += run.steps
            simulated_s += run.simulated_s
            counts.update(run.counts)
            if run.violations:
                failed.append(run.seed)
                _tell(run, options.ablation)
                if options.ablation:
                    break
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                _say(f"{done} of {len(seeds)} seeds, {done / (told - began):.1f} seeds/s")
        pool.close()  # they end by themselves and clear their disks away
        pool.join()
    took_s = time.monotonic() - began
    for name, number in sorted(counts.items()):
        _say(f"{name:28} {number}")
    _say(
        f"{done} seeds in {took_s:.0f} s, {done / took_s:.1f} seeds/s, {steps} steps, "
        f"{simulated_s / took_s:.0f} simulated seconds a second, {len(failed)} failed"
    )
    never = [name for name in MUST_HAPPEN if not counts[name]]
    if never and done >= CAMPAIGN and not failed:
        _say(f"never happened: {', '.join(never)}")
        return 1
    return bool(failed)


def _run(ablation: str | None, seed: str) -> Run:
    run = simulate(seed, ablation)
    if not run.violations:
        run.last = {}
    return run


def _tell(run: Run, ablation: str | None) -> None:
    """Why a seed failed, how to see it again, and what each host did last."""
    if not run.violations:
        return
    for host, events in run.last.items():
        _say(f"--- {host}: kind|time in us|step|host|label")
        for event in events:
            _say(f"    {event}")
    _say(f"seed {run.seed} failed (faults: {', '.join(run.faults) or 'none'}):")
    for why in run.violations:
        _say(f"  {why}")
    more = f" --ablation {ablation}" if ablation else ""
    _say(f"replay: python -m sconto.simulate --seed {run.seed}{more}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
