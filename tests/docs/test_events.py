"""Every type of event that a server sends or handles is in the reference, in its direction."""

import re
from pathlib import Path

import pytest

from sconto.servers.hub import Hub
from sconto.servers.merchant import Merchant
from sconto.servers.wallet import Wallet

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
TYPE = r"sconto\.[a-z]+\.[a-z_]+\.v\d+"


def section(*headings: str) -> set[str]:
    """Types in the tables below some headings."""
    found: set[str] = set()
    for heading in headings:
        text = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
        assert text, heading
        found.update(re.findall(rf"^\| `({TYPE})` \|", text[1], re.MULTILINE))
    return found


@pytest.mark.parametrize(
    ("server", "heading"),
    [
        (Merchant, "From a hub to a merchant"),
        (Hub, "From a merchant to a hub"),
        (Wallet, "From a hub to a wallet"),
    ],
)
def test_what_a_server_handles_is_documented(server: type, heading: str) -> None:
    handled = set(server.event_handlers)
    not_handled = {
        kind
        for kind in section(heading) - handled
        if "parks it" in PAGE.partition(f"| `{kind}` |")[2].partition("\n")[0]
    }
    assert section(heading) == handled | not_handled


def test_every_type_in_the_source_is_documented() -> None:
    found: set[str] = set()
    for path in sorted((ROOT / "src" / "sconto" / "servers").rglob("*.py")):
        found.update(re.findall(rf'"({TYPE})"', path.read_text(encoding="utf-8")))
    documented = section(
        "From a hub to a merchant", "From a merchant to a hub", "From a hub to a wallet"
    )
    assert found, "no type in the source"
    assert found <= documented
