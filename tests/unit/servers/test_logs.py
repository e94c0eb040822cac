"""Logs are written together, soon, and at once where somebody should look."""

import io
import json
import logging
import time
from collections.abc import Iterator

import pytest

from sconto.servers.logs import BufferedHandler, JsonFormatter


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO, BufferedHandler]]:
    stream = io.StringIO()
    handler = BufferedHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("sconto.test", logging.INFO)
    logger.addHandler(handler)
    yield logger, stream, handler
    handler.close()


Log = tuple[logging.Logger, io.StringIO, BufferedHandler]


def lines(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["message"] for line in stream.getvalue().splitlines()]


def test_a_line_waits_a_moment_and_is_written_without_a_next_one(log: Log) -> None:
    logger, stream, _ = log
    logger.info("one")
    logger.info("two")
    assert lines(stream) == []
    until = time.monotonic() + 10
    while not stream.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    assert lines(stream) == ["one", "two"]


def test_a_warning_is_written_at_once_after_what_came_before(log: Log) -> None:
    logger, stream, _ = log
    logger.info("one")
    logger.warning("two")
    assert lines(stream) == ["one", "two"]


def test_many_lines_do_not_wait(log: Log) -> None:
    logger, stream, handler = log
    for _ in range(handler.LINES_MAX):
        logger.info("one")
    assert len(lines(stream)) == handler.LINES_MAX


def test_closing_loses_nothing(log: Log) -> None:
    logger, stream, handler = log
    logger.info("one")
    handler.close()
    assert lines(stream) == ["one"]
