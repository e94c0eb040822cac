"""Seeds of the simulation: nothing is violated, the same seed is the same run, and it can fail.

`make sim SEEDS=20000` runs more. A seed that fails here is replayed by `make sim SEED=…`.
"""

import asyncio
import os
import subprocess
import sys

import pytest

from sconto.simulate import Guest, simulate
from sconto.simulate.campaign import CAMPAIGN, main


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_violated_whatever_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Goal: 500 seeds, none violated, and everything that can go wrong did so in one of them.

    One process: the other workers of the tests have the other processors.
    """
    result = main(["--seeds", str(CAMPAIGN), "--processes", "1"])
    said = capsys.readouterr().out
    assert result == 0, said[-5000:]
    assert f"{CAMPAIGN} seeds in" in said


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    """Goal: no order of a set, no address, no clock. Method: other hash seeds, other processes."""
    code = "from sconto.simulate import simulate as s; print([s(x).trace_hash for x in {order!r}])"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(order=order)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed, order in (("1", ["14", "3"]), ("2", ["3", "14"]))
    ]
    one, two = (eval(run.communicate()[0]) for run in runs)
    assert one == two[::-1]
    assert len(set(one)) == 2


def test_a_failing_seed_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "0", "--ablation", "guard"]) == 1
    said = capsys.readouterr().out
    assert "replay: python -m sconto.simulate --seed 0 --ablation guard" in said
    assert "--- hub: kind|time in us|step|host|label" in said


def test_what_a_guest_finds_is_a_violation() -> None:
    async def asks(guest: Guest) -> None:
        await asyncio.sleep(guest.draw.uniform(1, 2))
        raise ValueError("not what I was promised")

    assert simulate("1", guest=asks).violations == [
        "the guest: ValueError('not what I was promised')"
    ]
