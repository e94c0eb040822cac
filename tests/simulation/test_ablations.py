"""The auditor is not asleep: each safeguard that is taken out is missed."""

import pytest

from sconto.simulate import ABLATIONS, simulate

#: An ablation must be noticed within so many seeds.
WITHIN = 200
#: How the violation begins that it must lead to (the letters are those of `docs/howto/simulate.md`;
#: figures that differ begin with their promotion), and a seed that is known to show it: the first
#: to be tried.
SHOWN = {
    "audience": ("T: ", 27),
    "doubt": ("R: ", 27),
    "epoch": ("R: ", 8),
    "grants": ("R: ", 40),
    "guard": ("C: ", 0),
    "inbox": ("('promo", 2),
    "incarnation": ("R: ", 3),
    "outbox": ("('promo", 21),
    "reclaim": ("P: ", 5),
    "release": ("M: ", 9),
    "reversals": ("the return ", 41),
    "sharing": ("R: ", 4),
    "shoppers": ("S: ", 8),
    "statistics": ("J: ", 0),
    "sync": ("lost: ", 77),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_a_safeguard_that_is_taken_out_is_missed(name: str) -> None:
    """Goal: the auditor sees. Method: without the safeguard some seed must be violated, by what it
    guards against, and not by a server that only stands still."""
    kind, first = SHOWN[name]
    for seed in (*range(first, WITHIN), *range(first)):
        if any(why.startswith(kind) for why in simulate(str(seed), name).violations):
            return
    pytest.fail(f"{WITHIN} seeds without {name}, and nobody noticed")
