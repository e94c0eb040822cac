"""What `python -m sconto.torture` prints and exits with, the proxy, and one real kill."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from sconto.base.errors import UnavailableError
from sconto.demo.network import free_ports
from sconto.torture import __main__ as command
from sconto.torture.alone import alone, rounds_of
from sconto.torture.kills import kill
from sconto.torture.outcome import Bound, Options, Outcome, Trial, line, outcome, skipped
from sconto.torture.proxy import FaultProxy, Faults, read_message

KEPT, FAILED = Trial(rounds=3, acknowledged=9), Trial(acknowledged=9, lost=1)


def told(trial: Trial, control: Trial) -> Outcome:
    return outcome("kills", Bound(Options()), trial, control, of=3)


def test_a_campaign_is_good_when_the_promise_held_and_the_control_failed() -> None:
    assert told(KEPT, FAILED).is_good
    assert skipped("power", "it needs root").is_good


@pytest.mark.parametrize(
    ("trial", "control"),
    [
        (FAILED, FAILED),
        (Trial(overspent=1), FAILED),
        (Trial(changed=1), FAILED),
        (Trial(broken=["the books"]), FAILED),
        (Trial(errors=["no port"]), FAILED),
        (KEPT, Trial(errors=["no port"])),  # an error of the rig shows nothing
        (KEPT, KEPT),  # who finds nothing in a broken server finds nothing
    ],
)
def test_a_campaign_is_bad_otherwise(trial: Trial, control: Trial) -> None:
    assert not told(trial, control).is_good


def test_a_line_says_what_was_found() -> None:
    document = json.loads(line(told(KEPT, FAILED)))
    assert document["rounds"] == document["of"] == 3 and document["acknowledged"] == 9
    assert (document["lost"], document["overspent"], document["control"]) == (0, 0, True)
    assert document["control_found"].startswith("lost 1 of 9")


def ran(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], result: Any
) -> tuple[int, dict[str, Any]]:
    """Exit code and line of a run of one campaign that gives, or raises, this."""

    async def campaign(options: Options, folder: Path) -> Outcome:
        assert folder.is_dir() and options.kills == 7
        if isinstance(result, Exception):
            raise result
        found: Outcome = result
        return found

    monkeypatch.setattr(command, "CAMPAIGNS", {"kills": campaign})
    code = command.main(["kills", "--kills", "7"])
    return code, json.loads(capsys.readouterr().out)


def test_it_exits_with_1_when_a_promise_was_broken_or_a_control_did_not_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(monkeypatch, capsys, told(KEPT, FAILED))[0] == 0
    assert ran(monkeypatch, capsys, skipped("kills", "why"))[0] == 0
    assert ran(monkeypatch, capsys, told(FAILED, FAILED))[0] == 1
    assert ran(monkeypatch, capsys, told(KEPT, KEPT))[0] == 1
    code, document = ran(monkeypatch, capsys, UnavailableError("no disk"))
    assert code == 1 and "no disk" in document["errors"][0]


def test_it_knows_its_campaigns(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["kilts"])
    with pytest.raises(SystemExit):
        command.main(["--kills", "0"])


def test_the_proxy_repeats_requests_and_loses_answers() -> None:
    """Each request arrives one to five times; a lost answer is a connection that ends."""
    arrived: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append((await read_message(reader))[-2:])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def ask(port: int, body: bytes) -> bytes | None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n" + body)
            return (await read_message(reader))[-2:]
        except asyncio.IncompleteReadError:
            return None
        finally:
            writer.close()

    async def run() -> tuple[Faults, list[bytes | None]]:
        port, to = free_ports(2)
        faults = Faults(random.Random(1), delay_s=0.001)
        proxy = FaultProxy(port, to, faults)
        behind = await asyncio.start_server(server, "127.0.0.1", to)
        await proxy.start()
        answers = [await ask(port, b"00")]
        faults.is_on = True
        answers += [await ask(port, b"%02d" % number) for number in range(1, 30)]
        while len(arrived) < 30 + faults.counts["copies"]:
            await asyncio.sleep(0.01)
        await proxy.stop()
        behind.close()
        return faults, answers

    faults, answers = asyncio.run(run())
    assert answers[0] == b"ok" and arrived.count(b"00") == 1
    assert answers.count(None) == faults.counts["lost_answers"] > 0
    times = [arrived.count(b"%02d" % number) for number in range(1, 30)]
    assert min(times) == 1 and max(times) == 5
    assert sum(times) == 29 + faults.counts["copies"]


@pytest.mark.slow
@pytest.mark.timeout(400)  # five starts of a process, on a machine that may be busy
def test_a_killed_merchant_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """Goal: the rig itself runs. Method: one real kill -9 under load, with every check."""

    async def run() -> Trial:
        async with alone(tmp_path, cap=20) as one:
            return await rounds_of(one, kill, 1, Bound(Options()), "kills")

    trial = asyncio.run(run())
    assert trial.holds, trial
    assert trial.rounds == 1 and trial.acknowledged > 5
