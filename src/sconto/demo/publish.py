"""Publishing the journey: brands and promotions at the hub, acceptances, frames, accounts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from sconto.demo.journey import CURRENCY, Journey, JourneyPromotion
from sconto.demo.network import Network
from sconto.frames import FrameOffer, build_frame, encode_bundle
from sconto.frames.model import OFFERS_MAX
from sconto.servers.config import load_home
from sconto.terms import Terms, terms_digest, terms_from

#: Uses of each promotion over all merchants; the data has no limit, so none is ever reached.
USES_MAX = 10_000
FRAME_FOLDER = Path(__file__).parent / "frame"
#: The frames are shown all through the replayed year, and to whoever looks at them today.
FRAME_FROM_S = 1_483_228_800
FRAME_DAYS = 30
AT_ONCE = 6

#: (merchant, promotion key) -> id of the frame that it is offered in.
FrameIds = dict[tuple[int, str], str]
Advance = Callable[[], None]
T = TypeVar("T")


def brand_tenant(brand: str) -> str:
    """Tenant id of a brand; products that no manufacturer is known of have one too."""
    return f"brand-{brand}" if brand else "brand-unknown"


def terms_of(promotion: JourneyPromotion) -> Terms:
    """The terms of a coupon of the journey: amount off its products, once for each token."""
    tenant = brand_tenant(promotion.brand)
    return terms_from(
        {
            "promotion_id": promotion.key,
            "title": promotion.title,
            "currency": CURRENCY,
            "access": {"type": "token"},
            "benefits": [
                {
                    "type": "amount_off",
                    "amount_minor": promotion.face_value_minor,
                    "items": {"include": [{"skus": list(promotion.product_ids)}]},
                }
            ],
            "funding": {"shares": [{"party": tenant, "basis_points": 10_000}]},
            "schedule": {
                "time_zone": "UTC",
                "from": promotion.start.isoformat(),
                "until": (promotion.end + timedelta(days=1)).isoformat(),
            },
            "no_effect": "redeem",
            "limits": [{"uses": USES_MAX}],
        }
    )


async def publish(
    network: Network, journey: Journey, now_s: int, advance: Callable[[str], Advance]
) -> FrameIds:
    """Everything that must stand before the first basket; `advance(what)` starts a step's bar."""
    hub = network.hub_client
    brands = sorted({brand_tenant(one.brand) for one in journey.promotions.values()})
    await each(brands, hub_add_brand(network), advance("brands"))

    terms = {key: terms_of(one) for key, one in journey.promotions.items()}

    async def add(one: tuple[JourneyPromotion, Terms]) -> None:
        await hub.add_promotion(one[1], launch=True, tenant_id=brand_tenant(one[0].brand))

    pairs = [(journey.promotions[key], terms[key]) for key in terms]
    await each(pairs, add, advance("promotions"))
    await network.wait_delivered()

    async def take_part(i: int) -> None:
        await network.merchant_clients[i].accept(network.hub.url, all_of_them=True)

    step = advance("acceptances")
    await each(range(len(network.merchants)), take_part, step)
    await network.wait_delivered()
    digests = {key: terms_digest(one) for key, one in terms.items()}
    frames = await publish_frames(network, journey, digests, now_s, advance("frames"))
    households = sorted({basket.household_id for basket in journey.baskets})
    await network.wallet_client.add_accounts([account(one) for one in households])
    return frames


def hub_add_brand(network: Network) -> Callable[[str], Awaitable[Any]]:
    async def add(tenant_id: str) -> None:
        await network.hub_client.add_tenant(tenant_id, "brand", tenant_id.replace("-", " "))

    return add


async def publish_frames(
    network: Network,
    journey: Journey,
    digests: dict[str, str],
    now_s: int,
    advance: Advance,
) -> FrameIds:
    """One frame for each merchant and campaign, generated and signed by the merchant's script."""
    files = {
        path.relative_to(FRAME_FOLDER).as_posix(): path.read_bytes()
        for path in sorted(FRAME_FOLDER.iterdir())
    }
    by_campaign: dict[int, list[JourneyPromotion]] = {}
    for one in journey.promotions.values():
        by_campaign.setdefault(one.campaign, []).append(one)
    frames: FrameIds = {}
    for i, merchant in enumerate(network.merchants):
        key = load_home(merchant.home, "merchant").key
        sequence = 0
        for campaign in sorted(by_campaign):
            listed = by_campaign[campaign]
            for start in range(0, len(listed), OFFERS_MAX):
                sequence += 1
                chunk = listed[start : start + OFFERS_MAX]
                frame = build_frame(
                    key,
                    merchant=merchant.url,
                    hub=network.hub.url,
                    not_before_s=FRAME_FROM_S,
                    expires_s=now_s + FRAME_DAYS * 86_400,
                    sequence=sequence,
                    offers=[
                        FrameOffer(
                            id=f"o{n + 1}",
                            promotion_id=one.key,
                            terms_digest=digests[one.key],
                            title=one.title[:200],
                        )
                        for n, one in enumerate(chunk)
                    ],
                    files=files,
                )
                await network.merchant_clients[i].publish_frame(encode_bundle(frame))
                frames |= {(i, one.key): frame.frame_id for one in chunk}
        advance()
    return frames


def account(household_id: str) -> str:
    """Wallet account of a household, and the merchants' reference of it."""
    return f"household-{household_id}"


async def each(things: Iterable[T], do: Callable[[T], Awaitable[Any]], advance: Advance) -> None:
    """Do something for each, a few at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(thing: T) -> None:
        async with places:
            await do(thing)
        advance()

    await asyncio.gather(*(one(thing) for thing in things))
