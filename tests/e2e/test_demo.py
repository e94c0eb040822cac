"""The demo as its users run it: one command, real data, real processes, and a hub that dies."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from sconto.demo.journey import load_journey

pytestmark = pytest.mark.timeout(300)


def test_two_days_are_replayed_exactly_though_the_hub_is_killed_half_way(tmp_path: Path):
    """The merchants sell on, the clips wait, and every figure is what the data says."""
    journey = load_journey((date(2017, 10, 30), date(2017, 10, 31)))
    redeemed = [key for basket in journey.baskets for key in basket.redemptions]
    summary = tmp_path / "summary.json"
    shorter = "from sconto.cli import demo_run, main; demo_run.HUB_AWAY_S = 5; main()"
    done = subprocess.run(
        [sys.executable, "-c", shorter, "demo", "--once", "--days", "2", "--kill-hub",
         "--summary", str(summary)],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for step in range(1, 8):
        assert f"\n{step}. " in done.stdout, f"step {step} was not shown"
    assert "the hub was killed" in done.stdout
    result = json.loads(summary.read_text())
    assert result["differences"] == []
    assert result["baskets"] == len(journey.baskets)
    assert result["redeemed"] == result["clipped"] == len(redeemed) == 3
    assert result["discount_minor"] == sum(
        journey.promotions[key].face_value_minor for key in redeemed
    )
    by_server = result["servers"]
    assert by_server["hub"]["discount_minor_by_brand"] == result["discount_minor_by_brand"]
    assert by_server["wallet"]["redeemed_by_campaign"] == result["redeemed_by_campaign"]
    assert sum(by_server[f"merchant-{i}"]["baskets"] for i in range(3)) == result["baskets"]
