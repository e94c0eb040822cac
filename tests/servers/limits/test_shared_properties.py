"""Whatever merchants do and whoever is away: no more is redeemed than any limit says."""

import asyncio
import itertools
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sconto.base.clock import from_ms
from sconto.servers.merchant import asking
from sconto.terms.counting import period_of

pytestmark = pytest.mark.anyio

numbers = itertools.count(1)
places = st.integers(0, 2)
acts = st.one_of(
    st.tuples(st.just("sell"), places, st.sampled_from(["gold", "blue"])),
    st.tuples(st.just("rush"), places, st.sampled_from(["gold", "blue"])),
    st.tuples(st.just("return"), places),
    st.tuples(st.just("go"), st.integers(1, 40)),
    st.tuples(st.just("cut"), st.integers(-1, 2)),
    st.tuples(st.just("heal")),
)


class Story:
    """One promotion at three merchants, and what was redeemed of it, counted by us."""

    def __init__(self, net, sites, cart, limits, zone):
        self.net, self.sites, self.cart, self.limits, self.zone = net, sites, cart, limits, zone
        self.promotion_id = f"p{next(numbers)}"
        #: Orders that used it, and the day and tier that they count for.
        self.used = [{} for _ in sites]

    async def begin(self):
        terms = {
            "limits": self.limits,
            "schedule": {"time_zone": self.zone},
            "access": {"type": "code", "code": self.promotion_id},
        }
        await self.net.promise(self.promotion_id, *self.sites, **terms)

    async def sell(self, place, tier):
        order_id = self.net.order_id()
        day = from_ms(self.net.clock(), self.zone).date()
        cart = {**self.cart, "codes": [self.promotion_id], "attributes": {"tier": tier}}
        if await self.sites[place].sell(order_id, cart):
            self.used[place][order_id] = (day, tier)

    async def act(self, kind, *about):
        if kind == "sell":
            await self.sell(*about)
        elif kind == "rush":  # at one till four times, and everywhere, at once
            rush = [about[0]] * 4 + [0, 1, 2]
            await asyncio.gather(*(self.sell(place, about[1]) for place in rush))
        elif kind == "return":
            for order_id in list(self.used[about[0]])[-1:]:
                path = f"/v1/orders/{order_id}/reversals"
                await self.sites[about[0]].post(path, {"reversal_id": "r"}, 201)
                del self.used[about[0]][order_id]
        elif kind == "go":
            self.net.clock.advance(3600 * about[0])
            for site in self.sites:
                await asking.provide(site.server)
        elif kind == "cut":
            self.net.away.add((self.net.hub if about[0] < 0 else self.sites[about[0]]).url)
        else:
            self.net.heal()
            await self.net.settle()

    def check(self):
        for limit in self.limits:
            counted = Counter(
                (period_of(limit["period"], day), tier if "attribute" in limit else "")
                for used in self.used
                for day, tier in used.values()
            )
            most = limit.get("uses", limit.get("amount_minor", 0) // 105)
            assert all(number <= most for number in counted.values()), (limit, counted)


tier = {"per": ["attribute"], "attribute": "tier"}
some_limits = st.tuples(
    st.builds(lambda uses: {"uses": uses, "period": "day"}, st.integers(1, 5)),
    st.builds(
        lambda minor, period: {"amount_minor": minor, "period": period, **tier},
        st.integers(105, 900),
        st.sampled_from(["day", "week", "ever"]),
    ),
)


@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    limits=some_limits,
    zone=st.sampled_from(["UTC", "America/Sao_Paulo", "Pacific/Kiritimati"]),
    script=st.lists(acts, min_size=4, max_size=10),
)
async def test_no_limit_is_exceeded(net, make_cart, limits, zone, script):
    """Goal: limits hold over all merchants in any story. Method: tell stories of sales, returns,
    cuts and days going by; count days and tiers apart from the servers; at the end everything is
    settled, nothing is disputed, and (by the fixture) the books of all balance.
    """
    while len(net.sites) < 4:
        await net.add_merchant(f"m{len(net.sites)}")
    story = Story(net, net.sites[1:], make_cart(), list(limits), zone)
    await story.begin()
    for act in script:
        await story.act(*act)
        story.check()
    await story.act("heal")
    story.check()
    assert net.hub.budget(story.promotion_id).spent.uses == sum(map(len, story.used))
    assert net.hub.count("disputed") == 0
    assert not any(site.parked() for site in net.sites)
