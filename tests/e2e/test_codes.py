"""Unique codes from the command line, by a real process that is killed in the middle of a job."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sconto.demo.network import free_ports

pytestmark = pytest.mark.timeout(180)
#: So many that making them takes longer than looking at them.
COUNT = 200_000
TERMS = {
    "promotion_id": "p",
    "title": "10 % off",
    "currency": "USD",
    "access": {"type": "unique_codes"},
    "benefits": [{"type": "percent_off", "basis_points": 1000}],
}


class Shop:
    """A merchant's home, its process, and the command line."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.environment = dict(os.environ)
        made = self.sconto("init", "--url", self.url)
        self.environment["SCONTO_API_KEY"] = made["api_key"]
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sconto", "merchant", *arguments, "--home", str(self.home)],
            capture_output=True, text=True, check=False, timeout=120, env=self.environment,
        )  # fmt: skip

    def sconto(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sconto", "merchant", "serve", "--home", str(self.home)],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/readyz", trust_env=False)
                return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError((self.home / "log").read_text())

    def end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "home")
    made.start()
    (tmp_path / "terms.json").write_text(json.dumps(TERMS))
    made.sconto("promotion", "publish", str(tmp_path / "terms.json"), "--launch")
    yield made
    made.end(signal.SIGTERM)


def read(path: Path) -> list[str]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["code"] for row in rows]


@pytest.mark.slow
def test_a_job_survives_kill_9_and_its_codes_are_exported(shop: Shop, tmp_path: Path) -> None:
    """Goal: exactly the codes that were asked for. Method: kill -9 while they are made; what was
    exported before is the beginning of what is exported in the end."""
    job = shop.sconto("codes", "generate", "p", "--count", str(COUNT), "--id", "j", "--no-wait")
    assert (job["state"], job["count"]) == ("running", COUNT)
    while shop.sconto("codes", "status", "p", "--id", "j")["done"] == 0:
        time.sleep(0.01)
    shop.sconto("codes", "export", "p", "--id", "j", "--out", str(tmp_path / "part.csv"))
    shop.end(signal.SIGKILL)
    shop.start()
    done = shop.sconto("codes", "status", "p", "--id", "j", "--watch")
    assert (done["state"], done["done"]) == ("finished", COUNT)
    whole = tmp_path / "whole.csv"
    shop.sconto("codes", "export", "p", "--id", "j", "--out", str(whole))
    assert whole.stat().st_mode & 0o777 == 0o600
    codes, part = read(whole), read(tmp_path / "part.csv")
    assert len(set(codes)) == COUNT
    assert 0 < len(part) < COUNT and codes[: len(part)] == part
    again = shop.run("codes", "export", "p", "--id", "j", "--out", str(whole))
    assert again.returncode == 2 and len(again.stderr.splitlines()) == 1
    out = shop.run("codes", "export", "p", "--id", "j", "--out", "-")
    assert out.stdout.split() == ["code", *codes]


def test_import_and_status(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "codes.csv"
    file.write_text("code\nANN-2026\nBOB-2026\n")
    done = shop.sconto("codes", "import", "p", str(file), "--id", "mail")
    assert (done["kind"], done["done"]) == ("imported", 2)
    file.write_text("code\nCID-2026\nbob 2026\n")
    bad = shop.run("codes", "import", "p", str(file))
    assert bad.returncode == 2 and "row 3" in bad.stderr
    missing = shop.run("codes", "import", "p", str(tmp_path / "none.csv"))
    assert missing.returncode == 2 and "cannot be read" in missing.stderr
    made = shop.sconto("codes", "generate", "p", "--count", "5", "--id", "five", "--prefix", "X-")
    assert made["state"] == "finished"
    listed = shop.sconto("codes", "status", "p")["code_jobs"]
    assert [(one["job_id"], one["done"]) for one in listed] == [("mail", 2), ("five", 5)]
    unknown = shop.run("codes", "export", "p", "--id", "none", "--out", str(tmp_path / "x.csv"))
    assert unknown.returncode == 2 and not (tmp_path / "x.csv").exists()
