"""`sconto wallet token move`: one request, and the answer for people and for programs."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from sconto.cli.api import Api
from sconto.cli.app import app

ANSWER = {"move_id": "m1", "token_id": "T", "merchant": "https://b.example", "state": "pending"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the server, which answers that the move is pending."""
    found: list[Any] = []

    def call(self: Api, *request: Any) -> dict[str, str]:
        found.append((self.url, *request))
        return ANSWER

    monkeypatch.setenv("SCONTO_API_KEY", "k")
    monkeypatch.setattr(Api, "call", call)
    return found


def move(*options: str) -> str:
    command = ["wallet", "token", "move", "T", "--merchant", "https://b.example"]
    done = CliRunner().invoke(
        app, [*command, "--url", "https://wallet.example", *options], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_a_move_is_asked_for_under_the_callers_id(asked: list[Any]) -> None:
    said = json.loads(move("--id", "m1", "--account", "ada", "--json"))
    assert said == ANSWER
    document = {"move_id": "m1", "merchant": "https://b.example", "account_id": "ada"}
    assert asked == [("https://wallet.example", "POST", "/v1/tokens/T/moves", document)]


def test_without_an_id_each_call_is_a_move_of_its_own(asked: list[Any]) -> None:
    """The id is shown, so that the same move can be asked for again."""
    assert "move_id: m1" in move()
    move()
    first, second = (document for *_, document in asked)
    assert first["move_id"] != second["move_id"]
    assert "account_id" not in first
