"""The auditor is not asleep: each safeguard that is taken out is missed."""

import pytest

from sconto.simulate import ABLATIONS, simulate

#: An ablation must be noticed within so many seeds.
WITHIN = 200
#: How the violation begins that it must lead to (the letters are those of `docs/howto/simulate.md`;
#: figures that differ begin with their promotion), and a seed that is known to show it: the first
#: to be tried.
SHOWN = {
    "audience": ("T: ", 1),
    "epoch": ("R: ", 65),
    "grants": ("R: ", 95),
    "guard": ("C: ", 0),
    "inbox": ("('promo", 3),
    "incarnation": ("R: ", 33),
    "outbox": ("('promo", 12),
    "reclaim": ("P: ", 1),
    "reversals": ("the return ", 30),
    "statistics": ("J: ", 0),
    "sync": ("lost: ", 9),
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
