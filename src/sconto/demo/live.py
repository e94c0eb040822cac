"""A promotion that is alive today, to click through by hand from gallery to statistics.

It comes after the replay, whose year is over; its counts are its own.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sconto.demo.network import Network
from sconto.demo.publish import FRAME_FOLDER
from sconto.frames import FrameOffer, build_frame, encode_bundle
from sconto.servers.config import load_home
from sconto.terms import Terms, terms_digest, terms_from

BRAND = "demo-brand"
SHOPPER = "demo-shopper"
DAYS = 30


@dataclass(frozen=True)
class Live:
    """What a visitor needs: the promotion, its frames by merchant, and keys to sign in with."""

    terms: Terms
    frame_ids: Sequence[str]
    brand_key: str
    shopper_key: str
    till_keys: list[str]


def live_terms(now: datetime) -> Terms:
    """1.00 off any two items, once for each coupon; the first 1,000."""
    return terms_from(
        {
            "promotion_id": "demo-live",
            "title": "1.00 off any two items",
            "currency": "USD",
            "access": {"type": "token"},
            "conditions": [{"type": "quantity", "min": 2}],
            "benefits": [{"type": "amount_off", "amount_minor": 100}],
            "funding": {"shares": [{"party": BRAND, "basis_points": 10_000}]},
            "schedule": {
                "from": now.date().isoformat(),
                "until": (now + timedelta(days=DAYS)).date().isoformat(),
            },
            "limits": [{"uses": 1000}],
        }
    )


async def publish_live(network: Network) -> Live:
    """Brand, promotion, a frame at every merchant, a shopper's account, and their keys."""
    now = datetime.now(UTC)
    terms = live_terms(now)
    hub = network.hub_client
    await hub.add_tenant(BRAND, "brand", "Demo Brand")
    brand = await hub.add_key(BRAND, ["promotions:read", "promotions:write"], "brand's marketers")
    await hub.add_promotion(terms, launch=True, tenant_id=BRAND)
    await network.wait_delivered()
    till_keys = []
    for client in network.merchant_clients:
        await client.accept(network.hub.url, [terms.promotion_id])
        till = await client.add_key("operator", ["evaluate", "checkout"], "till")
        till_keys.append(till["api_key"])
    await network.wait_delivered()
    frame_ids = []
    for i, merchant in enumerate(network.merchants):
        frame = build_frame(
            load_home(merchant.home, "merchant").key,
            merchant=merchant.url,
            hub=network.hub.url,
            not_before_s=int(now.timestamp()) - 60,
            expires_s=int(now.timestamp()) + DAYS * 86_400,
            sequence=int(now.timestamp() * 1000),
            offers=[
                FrameOffer(
                    id="live",
                    promotion_id=terms.promotion_id,
                    terms_digest=terms_digest(terms),
                    title=terms.title,
                )
            ],
            files=live_files(terms),
        )
        await network.merchant_clients[i].publish_frame(encode_bundle(frame))
        frame_ids.append(frame.frame_id)
    shopper = await network.wallet_client.add_account(SHOPPER, "A shopper")
    return Live(terms, frame_ids, brand["api_key"], shopper["api_key"], till_keys)


def live_files(terms: Terms) -> dict[str, bytes]:
    """The demo frame, with a button that asks the hub's page for the hub's own dialog."""
    files = {path.name: path.read_bytes() for path in sorted(FRAME_FOLDER.iterdir())}
    button = f'<p><button data-promotion="{html.escape(terms.promotion_id)}">I want it</button></p>'
    page = files["index.html"].decode()
    files["index.html"] = page.replace(
        "</body>", f'{button}\n<script src="frame.js"></script>\n</body>'
    ).encode()
    return files
