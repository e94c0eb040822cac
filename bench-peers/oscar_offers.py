"""django-oscar as a peer: a site offer for each promotion, its `Applicator` on baskets in memory.

In: a task as JSON on standard input (`sconto.bench.peers` says what). Out: one JSON object a line.
The database is SQLite in memory. What is timed is `Applicator.apply`, as a shop calls it at every
change of a basket: it reads the offers and applies them to a basket whose lines are loaded.
"""

import json
import sys
import time
from decimal import Decimal

import django
import oscar
from django.conf import settings
from oscar.defaults import *  # noqa: F403

urlpatterns = []


class NoMigrations(dict):
    """Tables are made from the models at once."""

    def __contains__(self, name):
        return True

    def __getitem__(self, name):
        return None


def configure():
    """Settings of the smallest shop."""
    own = {name: value for name, value in globals().items() if name.startswith("OSCAR_")}
    settings.configure(
        **own,
        SECRET_KEY="bench",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=oscar.INSTALLED_APPS,
        ROOT_URLCONF=__name__,
        STATIC_URL="/static/",
        HAYSTACK_CONNECTIONS={
            "default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}
        },
        MIGRATION_MODULES=NoMigrations(),
        SITE_ID=1,
        USE_TZ=True,
    )
    django.setup()


def main():
    task = json.load(sys.stdin)
    configure()
    from django.core.management import call_command
    from oscar.core.loading import get_class, get_model

    call_command("migrate", run_syncdb=True, verbosity=0)
    Product = get_model("catalogue", "Product")
    StockRecord = get_model("partner", "StockRecord")
    prices = {line["sku"]: line["unit_minor"] for cart in task["carts"] for line in cart}
    kind = get_model("catalogue", "ProductClass").objects.create(
        name="goods", track_stock=False, requires_shipping=False
    )
    wanted = list(dict.fromkeys([*prices, *task["products"][: max(task["sizes"])]]))
    Product.objects.bulk_create(
        Product(upc=sku, title=sku, slug=f"p{sku}", product_class=kind, structure="standalone")
        for sku in wanted
    )
    products = {product.upc: product for product in Product.objects.all()}
    apply = get_class("offer.applicator", "Applicator")().apply
    strategy = get_class("partner.strategy", "Selector")().strategy()

    partner = get_model("partner", "Partner").objects.create(name="shop")
    StockRecord.objects.bulk_create(
        StockRecord(
            product=products[sku],
            partner=partner,
            partner_sku=sku,
            price=Decimal(unit_minor) / 100,
            price_currency=settings.OSCAR_DEFAULT_CURRENCY,
        )
        for sku, unit_minor in prices.items()
    )
    baskets = []
    for cart in task["carts"]:
        basket = get_model("basket", "Basket").objects.create()
        basket.strategy = strategy
        for line in cart:
            basket.add_product(products[line["sku"]], line["quantity"])
        basket.all_lines()._fetch_all()
        for line in basket.all_lines():
            line.purchase_info  # noqa: B018 - read once, then it is kept
        baskets.append(basket)

    made = 0
    for size in task["sizes"]:
        _make_offers(task["products"][made:size], products)
        made = size
        times, discounts, end = [], [], time.perf_counter() + task["seconds"]
        while not times or time.perf_counter() < end:
            basket = baskets[len(times) % len(baskets)]
            basket.reset_offer_applications()
            started = time.perf_counter_ns()
            apply(basket)
            times.append((time.perf_counter_ns() - started) / 1000)
            discounts.append(int(basket.total_discount * 100))
        print(json.dumps({"size": size, "times_us": times, "discounts": discounts}), flush=True)


def _make_offers(skus, products):
    from oscar.core.loading import get_model

    Range, Condition = get_model("offer", "Range"), get_model("offer", "Condition")
    Benefit, Offer = get_model("offer", "Benefit"), get_model("offer", "ConditionalOffer")
    for sku in skus:
        goods = Range.objects.create(name=f"range {sku}", slug=f"range-{sku}")
        goods.add_product(products[sku])
        Offer.objects.create(
            name=f"two of {sku}",
            slug=f"two-of-{sku}",
            offer_type=Offer.SITE,
            exclusive=False,
            condition=Condition.objects.create(range=goods, type=Condition.COUNT, value=2),
            benefit=Benefit.objects.create(range=goods, type=Benefit.PERCENTAGE, value=10),
        )


if __name__ == "__main__":
    main()
