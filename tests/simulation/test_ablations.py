"""The auditor is not asleep: each safeguard that is taken out is missed."""

import pytest

from sconto.simulate import ABLATIONS, simulate

#: An ablation must be noticed within so many seeds; most are in the first.
WITHIN = 200


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_a_safeguard_that_is_taken_out_is_missed(name: str) -> None:
    """Goal: the auditor sees. Method: without the safeguard some seed must be violated."""
    for seed in range(WITHIN):
        if simulate(str(seed), name).violations:
            return
    pytest.fail(f"{WITHIN} seeds without {name}, and nobody noticed")
