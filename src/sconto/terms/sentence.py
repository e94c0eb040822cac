"""What terms promise, in one plain sentence, in the languages of `phrases`.

The sentence is made from the document alone, so it can neither promise more nor hide a condition.
"""

from datetime import datetime

from sconto.base.clock import from_ms
from sconto.base.money import BASIS_POINTS, currency_decimals
from sconto.terms import benefits as b
from sconto.terms import conditions as c
from sconto.terms.model import Code, Limit, Terms, TokenAccess, UniqueCodes
from sconto.terms.phrases import CATALOGUES, ENGLISH
from sconto.terms.schedule import WEEKDAYS, WeeklyHours
from sconto.terms.selectors import AttributeMatch, Clause, Selector

#: So many names are said; the others are counted.
NAMES_MAX = 3
_MS_PER_MINUTE = 60_000


def sentence(terms: Terms, language: str = "en") -> str:
    r"""The promise, in English where the language has no catalogue.

    >>> from sconto.terms import terms_from
    >>> oaty = {"include": [{"skus": ["Oaty 1 l"]}]}
    >>> terms = terms_from({"promotion_id": "p", "title": "t", "currency": "USD",
    ...     "benefits": [{"type": "buy_get", "buy_quantity": 2, "buy": oaty}],
    ...     "limits": [{"per": ["shopper"], "uses": 1}, {"uses": 10000}],
    ...     "schedule": {"until": "2026-06-01", "time_zone": "America/Chicago"}})
    >>> print(sentence(terms).replace("; ", ";\n"))
    Buy 2 Oaty 1 l, get the cheapest free;
    once per shopper;
    first 10,000;
    until 31 May 2026 23:59 Chicago time.
    >>> sentence(terms, "de").partition(";")[0]
    '2 Oaty 1 l kaufen, der günstigste gratis'
    """
    return Speaker(terms, CATALOGUES.get(language.partition("-")[0], ENGLISH)).say()


class Speaker:
    """Says one document in one language."""

    def __init__(self, terms: Terms, words: dict[str, str]) -> None:
        self.terms, self.words = terms, words

    def say(self) -> str:
        terms = self.terms
        parts = [self.join([self.benefit(one) for one in terms.benefits], "and")]
        parts += [self.condition(one) for one in terms.conditions]
        parts += self.access()
        parts += [self.limit(one) for one in terms.limits]
        if terms.circulation is not None:
            parts.append(self.put("circulation", count=self.number(terms.circulation)))
        parts += self.schedule()
        if terms.combination.exclusive:
            parts.append(self.put("exclusive"))
        text = "; ".join(part for part in parts if part)
        return f"{text[:1].upper()}{text[1:]}."

    def put(self, phrase: str, **values: object) -> str:
        return self.words[phrase].format(**values)

    def join(self, names: list[str], word: str) -> str:
        """A, B and C; from the fourth on they are counted."""
        if len(names) > NAMES_MAX + 1:
            rest = self.put("more", count=self.number(len(names) - NAMES_MAX))
            names = [*names[:NAMES_MAX], rest]
            word = "and" if word == "and" else "or"
        if len(names) < 2:
            return "".join(names)
        return ", ".join(names[:-1]) + self.words[word] + names[-1]

    def number(self, value: int) -> str:
        return f"{value:,}".replace(",", self.words["thousands"])

    def money(self, amount_minor: int) -> str:
        decimals = currency_decimals(self.terms.currency)
        whole, part = divmod(amount_minor, 10**decimals)
        cents = f"{self.words['decimal']}{part:0{decimals}}" if decimals else ""
        return f"{self.number(whole)}{cents} {self.terms.currency}"

    def percent(self, basis_points: int) -> str:
        whole, part = divmod(basis_points, 100)
        digits = f"{self.words['decimal']}{part:02}".rstrip("0") if part else ""
        return self.put("percent", number=f"{whole}{digits}")

    # Items

    def items(self, selector: Selector) -> str:
        if not selector.include:
            said = self.put("everything")
        else:
            said = self.join([self.clause(one) for one in selector.include], "or")
        if selector.exclude:
            others = self.join([self.clause(one) for one in selector.exclude], "and")
            said = self.put("except", items=said, others=others)
        return said

    def clause(self, clause: Clause) -> str:
        parts = []
        for names in (clause.skus, clause.gtins, clause.products):
            if names:
                parts.append(self.join(sorted(names), "or"))
        for phrase, names in (
            ("category", clause.categories),
            ("brand", clause.brands),
            ("tag", clause.tags),
        ):
            if names:
                parts.append(self.put(phrase, names=self.join(sorted(names), "or")))
        low, high = clause.price_min_minor, clause.price_max_minor
        if low is not None and high is not None:
            parts.append(self.put("price", low=self.money(low), high=self.money(high)))
        elif low is not None:
            parts.append(self.put("price_min", low=self.money(low)))
        elif high is not None:
            parts.append(self.put("price_max", high=self.money(high)))
        for match in clause.attributes:
            parts.append(self.put("attribute", names=self.attribute(match)))
        return self.join(parts, "and")

    def attribute(self, match: AttributeMatch) -> str:
        if match.any_of:
            return f"{match.name} {self.join([str(value) for value in match.any_of], 'or')}"
        low = "" if match.min is None else str(match.min)
        high = "" if match.max is None else str(match.max)
        return f"{match.name} {low}–{high}"

    def picked(self, items: Selector, pick: b.Pick | None) -> str:
        said = self.items(items)
        if pick is None:
            return said
        phrase = pick.choose if pick.quantity > 1 else f"{pick.choose}_one"
        return self.put(phrase, count=self.number(pick.quantity), items=said)

    # Benefits

    def benefit(self, one: b.Benefit) -> str:
        match one:
            case b.PercentOff():
                items = self.picked(one.items, one.pick)
                said = self.put("percent_off", percent=self.percent(one.basis_points), items=items)
                if one.basis == "lowest_price":
                    said += self.put("lowest_price")
                return said if one.max_minor is None else said + self.at_most(one.max_minor)
            case b.AmountOff():
                phrase = {"each_unit": "amount_each_unit", "each_line": "amount_each_line"}
                items = self.picked(one.items, one.pick)
                name = phrase.get(one.spread, "amount_off")
                return self.put(name, money=self.money(one.amount_minor), items=items)
            case b.FixedPrice():
                items = self.picked(one.items, one.pick)
                return self.put("fixed_price", items=items, money=self.money(one.unit_price_minor))
            case b.BundlePrice():
                parts = [self.units_of(part.quantity, part.items) for part in one.parts]
                said = self.put(
                    "bundle_price", items=self.join(parts, "and"), money=self.money(one.price_minor)
                )
                return said + self.repeat(one.repeat_max)
            case b.Tiered():
                return self.join([self.tier(one, tier) for tier in one.tiers], "and")
            case b.BuyGet():
                return self.buy_get(one)
            case b.Gift():
                return self.put("gift", count=self.number(one.quantity), items=one.sku)
            case b.ShippingOff():
                return self.shipping(one)
            case b.Points():
                count = self.number(one.points)
                if one.per_minor is None:
                    return self.put("points", count=count)
                return self.put("points_per", count=count, money=self.money(one.per_minor))
            case b.TokenFor():
                return self.put("token", name=one.promotion_id)
            case b.Custom():
                return self.put("custom", name=one.name)

    def at_most(self, amount_minor: int) -> str:
        return self.put("at_most", money=self.money(amount_minor))

    def repeat(self, times: int | None) -> str:
        return "" if times is None else self.put("repeat", count=self.number(times))

    def units_of(self, quantity: int, items: Selector) -> str:
        return self.put("units_of", count=self.number(quantity), items=self.items(items))

    def tier(self, benefit: b.Tiered, tier: b.Tier) -> str:
        items = self.items(benefit.items)
        if tier.basis_points is not None:
            said = self.put("percent_off", percent=self.percent(tier.basis_points), items=items)
        elif tier.amount_minor is not None:
            said = self.put("amount_off", money=self.money(tier.amount_minor), items=items)
        else:
            price = self.money(tier.unit_price_minor or 0)
            said = self.put("fixed_price", items=items, money=price)
        if benefit.measure == "subtotal":
            return self.put("tier", benefit=said, start=self.money(tier.from_))
        units = self.put("units", count=self.number(tier.from_))
        return self.put("tier", benefit=said, start=units)

    def buy_get(self, one: b.BuyGet) -> str:
        if one.get is None:
            phrase = f"get_{one.choose}" if one.get_quantity > 1 else f"get_{one.choose}_one"
            get = self.put(phrase, count=self.number(one.get_quantity))
        else:
            count = self.number(one.get_quantity)
            get = self.put("get_other", count=count, items=self.items(one.get))
        buy, items = self.number(one.buy_quantity), self.items(one.buy)
        if one.basis_points == BASIS_POINTS:
            said = self.put("buy_get_free", buy=buy, items=items, get=get)
        else:
            percent = self.percent(one.basis_points)
            said = self.put("buy_get_off", buy=buy, items=items, get=get, percent=percent)
        return said + self.repeat(one.repeat_max)

    def shipping(self, one: b.ShippingOff) -> str:
        if one.basis_points == BASIS_POINTS:
            said = self.put("shipping_free")
        elif one.basis_points is not None:
            said = self.put("shipping_off", percent=self.percent(one.basis_points))
        elif one.amount_minor is not None:
            said = self.put("shipping_amount", money=self.money(one.amount_minor))
        else:
            said = self.put("shipping_price", money=self.money(one.price_minor or 0))
        return f"{said} ({self.join(sorted(one.methods), 'or')})" if one.methods else said

    # Conditions

    def condition(self, one: c.Condition) -> str:
        match one:
            case c.All():
                return self.join([self.condition(x) for x in one.of], "and")
            case c.Any():
                return self.join([self.condition(x) for x in one.of], "or")
            case c.Not():
                return self.put("not", condition=self.condition(one.condition))
            case c.Subtotal():
                items, low, high = self.items(one.items), one.min_minor, one.max_minor
                return self.range(
                    "subtotal",
                    None if low is None else {"money": self.money(low), "items": items},
                    None if high is None else {"money": self.money(high), "items": items},
                )
            case c.Quantity():
                items, low, high = self.items(one.items), one.min, one.max
                return self.range(
                    "quantity",
                    None if low is None else {"count": self.number(low), "items": items},
                    None if high is None else {"count": self.number(high), "items": items},
                )
            case c.Distinct():
                return self.put("distinct", count=one.min, items=self.items(one.items))
            case c.OrderNumber():
                parts = []
                if one.numbers:
                    names = self.join([str(n) for n in sorted(one.numbers)], "or")
                    parts.append(self.put("order_number", names=names))
                if one.every is not None:
                    parts.append(self.put("order_every", count=self.number(one.every)))
                return self.join(parts, "or")
            case c.Hours():
                return self.join([self.hours(x) for x in one.weekly], "or")
            case c.Attribute():
                return self.put("condition_attribute", names=self.attribute(one.match))
            case _:
                phrase = str(type(one).__struct_config__.tag)
                return self.put(phrase, names=self.join(sorted(one.any_of), "or"))

    def range(self, name: str, low: dict[str, str] | None, high: dict[str, str] | None) -> str:
        parts = [self.put(f"{name}_min", **low)] if low else []
        parts += [self.put(f"{name}_max", **high)] if high else []
        return self.join(parts, "and")

    def hours(self, one: WeeklyHours) -> str:
        names = self.words["days"].split()
        days = [names[i] for i, day in enumerate(WEEKDAYS) if day in one.days]
        said = ", ".join(days) if days else self.put("daily")
        return self.put("hours", days=said, start=one.from_, end=one.until)

    # Access, limits, time

    def access(self) -> list[str]:
        access = self.terms.access
        if isinstance(access, Code):
            return [self.put("code", code=access.code)]
        if isinstance(access, UniqueCodes):
            return [self.put("unique_codes")]
        return [self.put("token_access")] if isinstance(access, TokenAccess) else []

    def limit(self, limit: Limit) -> str:
        period = "" if limit.period == "ever" else self.words[f"each_{limit.period}"]
        who = self.join(
            [
                limit.attribute or "" if name == "attribute" else self.words[f"who_{name}"]
                for name in sorted(limit.per - {"promotion"})
            ],
            "and",
        )
        if limit.amount_minor is not None:
            money = self.money(limit.amount_minor)
            name = "per_money" if who else "per_promotion_money"
            return self.put(name, money=money, who=who) + period
        count = limit.uses or 0
        if not who:
            return self.put("per_promotion", count=self.number(count)) + period
        once = count == 1
        uses = self.put("once") if once else self.put("times", count=self.number(count))
        return self.put("per", uses=uses, who=who) + period

    def schedule(self) -> list[str]:
        schedule = self.terms.schedule
        start, end = schedule.redeem_from_ms, schedule.redeem_until_ms
        parts = [self.hours(one) for one in schedule.weekly]
        # The end is not part of the window: the last minute that is, is said.
        last = None if end is None else self.date(end - _MS_PER_MINUTE)
        zone = self.zone()
        if start is not None and last is not None:
            parts.append(self.put("window", start=self.date(start), end=last) + zone)
        elif start is not None:
            parts.append(self.put("from", date=self.date(start)) + zone)
        elif last is not None:
            parts.append(self.put("until", date=last) + zone)
        days = schedule.days_after_clip
        if days is not None:
            parts.append(self.put("days_after_clip", count=days) if days else self.put("same_day"))
        return parts

    def date(self, at_ms: int) -> str:
        moment: datetime = from_ms(at_ms, self.terms.schedule.time_zone)
        month = self.words["months"].split()[moment.month - 1]
        return self.put(
            "date", day=moment.day, month=month, year=moment.year, time=f"{moment:%H:%M}"
        )

    def zone(self) -> str:
        place = self.terms.schedule.time_zone.rpartition("/")[2].replace("_", " ")
        return f" {self.put('zone', place=place)}"
