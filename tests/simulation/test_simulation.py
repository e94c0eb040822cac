"""Seeds of the simulation: nothing is violated, the same seed is the same run, and it can fail.

`make sim SEEDS=20000` runs more. A seed that fails here is replayed by `make sim SEED=…`.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest

from sconto.simulate import simulate
from sconto.simulate.campaign import main

SEEDS = int(os.environ.get("SIM_SEEDS", "20"))
#: What happens in some seed of even a small campaign.
SOMETIMES = (
    "request_lost reply_lost reply_reset request_doubled timed_out partition one_way swizzle skew "
    "crash_kill crash_power_cut crash_before_commit crash_before_reply disk_full "
    "journal_clipped journal_redeemed journal_released journal_expired journal_reversed repeated"
).split()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_violated_whatever_fails() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        run = simulate(str(seed))
        assert not run.violations, f"make sim SEED={seed}: {run.violations}"
        counts.update(run.counts)
    assert counts["calm"] == SEEDS
    assert [name for name in SOMETIMES if not counts[name]] == []


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    """Goal: no order of a set, no address, no clock. Method: other hash seeds, other processes."""
    code = "from sconto.simulate import simulate as s; print([s(x).trace_hash for x in '13'])"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    said = [run.communicate()[0] for run in runs]
    assert said[0] == said[1]
    assert len(set(said[0].split())) == 2


def test_a_failing_seed_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "0", "--ablation", "guard"]) == 1
    said = capsys.readouterr().out
    assert "replay: python -m sconto.simulate --seed 0 --ablation guard" in said
    assert "--- hub: kind|time in us|step|host|label" in said


def test_a_campaign_counts_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2", "--processes", "1"]) == 0
    said = capsys.readouterr().out
    assert "2 seeds in" in said
    assert "0 failed" in said
