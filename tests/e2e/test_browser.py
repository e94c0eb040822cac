"""The flow in a real browser: gallery, clip, wallet, checkout, statistics; and a tampered frame.

Everything is clicked in the system's Chromium against real servers.
"""

import re
import sqlite3

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.e2e.conftest import CHROMIUM, Town

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.timeout(180),
]
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert problems == []


def sign_in(page: Page, url: str, key: str, target: str = "/") -> None:
    page.goto(f"{url}/login?next={target}")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}{target}")


def frame_url(town: Town, number: int = 0) -> str:
    key = town.live.frame_ids[number].rpartition(";")[2]
    return f"{town.network.hub.url}/gallery/{key}"


def clip(page: Page, town: Town, number: int = 0) -> str:
    """Clip the live offer at a merchant and take it into the wallet; gives the handle."""
    page.goto(frame_url(town, number))
    page.get_by_role("button", name="Clip", exact=True).first.click()
    page.get_by_role("button", name="Take it").click()
    page.wait_for_url("**/tokens#*")
    token_id = page.url.partition("#")[2]
    card = page.locator(f"[id='{token_id}']")
    expect(card).to_contain_text(town.live.terms.title)
    return card.locator(".handle").inner_text()


def test_a_shopper_clips_in_the_gallery_and_saves_at_the_till(page: Page, town: Town):
    """The whole journey by hand: gallery -> clip -> wallet -> checkout -> statistics."""
    network, live = town.network, town.live
    page.goto(f"{network.hub.url}/gallery")
    expect(page.get_by_text(network.merchants[0].url)).to_be_visible()
    sign_in(page, network.wallet.url, live.shopper_key, "/tokens")
    handle = clip(page, town)
    town.run(network.wait_delivered())

    shop = network.merchants[0]
    sign_in(page, shop.url, live.till_keys[0], "/checkout")
    page.get_by_label("SKU of line 1").fill("milk")
    page.get_by_label("Units of line 1").fill("2")
    page.get_by_label("Price of line 1").fill("125")
    page.get_by_label("Codes and coupon handles").fill(handle)
    page.get_by_role("button", name="Show what comes off").click()
    expect(page.locator(".applied")).to_contain_text("1.00 off any two items")
    expect(page.locator(".applied")).to_contain_text("because the shopper holds the coupon")
    expect(page.locator("[data-total=total]")).to_have_text("1.50 USD")
    page.get_by_role("button", name="Check out").click()
    expect(page.get_by_role("heading", name="Signed receipt")).to_be_visible()
    expect(page.locator("[data-total=discount]")).to_have_text("1.00 USD")
    town.run(network.wait_delivered())

    sign_in(page, network.hub.url, live.brand_key, f"/promotions/{live.terms.promotion_id}")
    expect(page.locator("[data-counter=redeemed]")).to_have_text("1")
    expect(page.locator("[data-counter=given_minor]")).to_have_text("1.00 USD")
    page.goto(f"{network.wallet.url}/tokens")
    expect(page.locator(".card").filter(has_text=handle)).to_contain_text("redeemed")


def test_the_frame_is_sandboxed_and_may_only_ask(page: Page, town: Town):
    """The frame has no origin, no cookies, no network; its button opens the hub's own dialog."""
    page.goto(frame_url(town))
    iframe = page.locator("iframe.frame")
    assert iframe.get_attribute("sandbox") == "allow-scripts"
    frame = page.frame_locator("iframe.frame")
    expect(frame.get_by_role("heading", name="This week's coupons")).to_be_visible()
    inner = next(f for f in page.frames if f.url.startswith(town.network.hub_frames_url))
    assert inner.evaluate("window.origin") == "null"
    assert inner.evaluate(
        """async () => {
            const tried = {};
            for (const [name, act] of Object.entries({
                cookie: () => document.cookie, storage: () => localStorage.length,
                parent: () => parent.document.title,
            })) { try { act(); tried[name] = "worked"; } catch (e) { tried[name] = e.name; } }
            try { await fetch("/v1/frames"); tried.fetch = "worked"; }
            catch (e) { tried.fetch = e.name; }
            return tried;
        }"""
    ) == {
        "cookie": "SecurityError",
        "storage": "SecurityError",
        "parent": "SecurityError",
        "fetch": "TypeError",
    }
    before = town.run(town.network.hub_client.statistics(promotion_id="demo-live"))
    frame.get_by_role("button", name="I want it").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1.00 off any two items")
    dialog.get_by_role("button", name="Not now").click()
    expect(dialog).to_be_hidden()
    after = town.run(town.network.hub_client.statistics(promotion_id="demo-live"))
    assert after["totals"]["clipped"] == before["totals"]["clipped"]


def test_a_double_click_clips_once(page: Page, town: Town):
    """The form's clip id is the clip: sent twice, it is one token."""
    sign_in(page, town.network.wallet.url, town.live.shopper_key, "/tokens")
    page.goto(frame_url(town))
    before = town.run(town.network.hub_client.statistics(promotion_id="demo-live"))
    page.get_by_role("button", name="Clip", exact=True).first.dblclick()
    page.get_by_role("button", name="Take it").dblclick()
    # Not `wait_for_url`: the second click may abort the navigation of the first.
    expect(page).to_have_url(re.compile(r"/tokens#"))
    page.reload()
    after = town.run(town.network.hub_client.statistics(promotion_id="demo-live"))
    assert after["totals"]["clipped"] == before["totals"]["clipped"] + 1


def test_a_checkout_sent_twice_redeems_once(page: Page, town: Town):
    """A reload of the receipt sends the form again, with the same order id."""
    network = town.network
    sign_in(page, network.wallet.url, town.live.shopper_key, "/tokens")
    handle = clip(page, town, 1)
    town.run(network.wait_delivered())
    sign_in(page, network.merchants[1].url, town.live.till_keys[1], "/checkout")
    page.get_by_label("SKU of line 1").fill("milk")
    page.get_by_label("Units of line 1").fill("2")
    page.get_by_label("Price of line 1").fill("125")
    page.get_by_label("Codes and coupon handles").fill(handle)
    page.get_by_role("button", name="Check out").click()
    expect(page.get_by_role("heading", name="Signed receipt")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Signed receipt")).to_be_visible()
    (coupon,) = town.run(network.merchant_clients[1].coupon_information(handle=handle))
    assert coupon["uses_left"] == 0
    totals = town.run(network.merchant_clients[1].statistics(promotion_id="demo-live"))["totals"]
    assert (totals["redeemed"], totals["given_minor"]) == (1, 100)


def test_bad_input_at_the_till_says_what_is_wrong(page: Page, town: Town):
    sign_in(page, town.network.merchants[0].url, town.live.till_keys[0], "/checkout")
    page.get_by_label("SKU of line 1").fill("milk")
    page.get_by_label("Price of line 1").fill("1.25")
    page.get_by_role("button", name="Check out").click()
    expect(page.get_by_role("alert")).to_contain_text("'1.25' is not a whole number (price_1)")
    expect(page.get_by_label("SKU of line 1")).to_have_value("milk")


def test_pages_need_the_right_key_and_send_the_rest_to_sign_in(page: Page, town: Town):
    hub = town.network.hub
    page.goto(f"{hub.url}/promotions/demo-live")
    assert "/login?next=" in page.url
    page.get_by_label("API key").fill("sconto_" + "0" * 26 + "_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known here")


def test_pages_are_readable_on_a_phone(browser: Browser, town: Town):
    """No page is wider than a small phone's screen."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    sign_in(page, town.network.merchants[0].url, town.live.till_keys[0], "/checkout")
    wide = []
    for url in (
        f"{town.network.hub.url}/",
        f"{town.network.hub.url}/gallery",
        frame_url(town),
        f"{town.network.merchants[0].url}/checkout",
        f"{town.network.merchants[0].url}/orders",
        f"{town.network.hub.url}/schema",
    ):
        page.goto(url)
        if page.evaluate("document.documentElement.scrollWidth") > 360:
            wide.append(url)
    context.close()
    assert wide == []


def test_a_changed_byte_means_that_the_frame_is_not_shown(page: Page, town: Town):
    """Last, because it damages the hub's datastore: one byte of a stored file is flipped."""
    database = town.network.hub.home / "sconto.db"
    with sqlite3.connect(database, timeout=10) as connection:
        connection.execute(
            "UPDATE frame_resources"
            " SET content = CAST(replace(content, 'coupons', 'coupans') AS BLOB)"
            " WHERE path = '/index.html' AND frame_id = ?",
            (town.live.frame_ids[0],),
        )
    answer = page.goto(frame_url(town))
    assert answer is not None
    assert answer.status == 409
    expect(page.get_by_role("alert")).to_contain_text("is not what the merchant signed")
    expect(page.locator("iframe")).to_have_count(0)
    key = town.live.frame_ids[0].rpartition(";")[2]
    direct = page.goto(f"{town.network.hub_frames_url}/frames/{key}/index.html")
    assert direct is not None
    assert direct.status == 409
