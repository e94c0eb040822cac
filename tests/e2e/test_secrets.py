"""No secret is in what a server writes to its log, however much it says and whatever goes wrong.

Three real processes at the log level debug: the whole way of a coupon, then everything that a
careless or hostile client could get into an error, then a search for each secret in every log.
"""

import asyncio
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from sconto.base.canonical import b64url
from sconto.demo.live import publish_live
from sconto.demo.network import Network, Running, make_network

pytestmark = pytest.mark.timeout(180)
CART = {"currency": "USD", "lines": [{"id": "1", "sku": "milk", "quantity": 2, "price_minor": 125}]}


def start_talkative(server: Running) -> None:
    log = (server.home / "server.log").open("ab")
    server.process = subprocess.Popen(
        [sys.executable, "-m", "sconto", server.kind, "serve", "--home", str(server.home),
         "--log-level", "debug"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    log.close()


async def use_everything(network: Network) -> set[str]:
    """Clip, present, redeem and sign in, rightly and wrongly; gives all the secrets."""
    live = await publish_live(network)
    hub, shop, wallet = network.hub.url, network.merchants[0].url, network.wallet.url
    keys = {s.api_key for s in network.servers} | {live.brand_key, live.shopper_key}
    keys |= set(live.till_keys)
    made = {key.split("_", 2)[2] for key in keys}
    shopper = {"Authorization": f"Bearer {live.shopper_key}"}
    till = {"Authorization": f"Bearer {live.till_keys[0]}"}
    async with httpx.AsyncClient(timeout=20) as http:
        clip = {"clip_id": "c1", "hub": hub, "frame_id": live.frame_ids[0],
                "promotion_id": live.terms.promotion_id}  # fmt: skip
        token = (await http.post(f"{wallet}/v1/clips", json=clip, headers=shopper)).json()
        made |= {token["jws"].split(".")[2], token["jws"].split(".")[1], token["handle"]}
        asked = {"token_id": token["token_id"], "order_id": "o-1"}
        shown = (await http.post(f"{wallet}/v1/presentations", json=asked, headers=shopper)).json()
        made |= set(shown["proof"].split(".")[1:])
        presented = [{"token": shown["token"], "proof": shown["proof"]}]
        order = {"order_id": "o-1", "cart": CART, "presented": presented}
        sold = await http.post(f"{shop}/v1/redemptions", json=order, headers=till)
        assert sold.status_code == 201, sold.text
        code = await http.post(f"{shop}/v1/clients/card-1/link-codes", headers=till)
        made.add(code.json()["nonce"])
        form = urlencode({"api_key": live.till_keys[0], "next": "/orders"})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": shop}
        entered = await http.post(f"{shop}/login", content=form, headers=headers)
        assert entered.status_code == 303
        made.add(entered.headers["set-cookie"].partition(";")[0].partition("=")[2])
        fresh = f"sconto_{'0' * 26}_{b64url(secrets.token_bytes(32))}"
        made.add(fresh.split("_", 2)[2])
        await misuse(http, network, token, presented[0]["proof"], fresh)
    return made


async def misuse(
    http: httpx.AsyncClient, network: Network, token: dict, proof: str, key: str
) -> None:
    """Every secret at every wrong place: names, values, paths, queries, headers, other methods."""
    operator = {"Authorization": f"Bearer {network.merchants[0].api_key}"}
    for text in (token["jws"], token["handle"], proof, key):
        for server in network.servers:
            admin = {"Authorization": f"Bearer {server.api_key}"}
            wrong = {"Authorization": f"Bearer {text}", "Cookie": f"sconto_session={text}"}
            for headers in (admin, wrong, {"Signature": text, "Signature-Input": text}):
                for method, path in (
                    ("GET", f"/{text}"), ("GET", f"/v1/tokens/{text}"), ("PATCH", f"/v1/{text}"),
                    ("GET", f"/v1/promotions?after={text}&limit={text}"),
                    ("GET", f"/v1/credential-offers/{text}"), ("DELETE", f"/v1/tokens/{text}"),
                    ("GET", f"/v1/coupon-information?handle={text}"), ("PUT", f"/v1/orders/{text}"),
                ):  # fmt: skip
                    answer = await http.request(method, server.url + path, headers=headers)
                    assert answer.status_code < 500, answer.text
                for path in ("/v1/promotions", "/v1/clips", "/v1/evaluations", "/v1/redemptions",
                             "/v1/peers", "/v1/tenants", "/v1/events", "/openid4vci/token",
                             "/openid4vci/credential", "/v1/frames", "/login"):  # fmt: skip
                    for document in ({text: text}, {"terms": text, "url": text, "kind": text}):
                        answer = await http.post(server.url + path, json=document, headers=headers)
                        assert answer.status_code < 500, answer.text
    shop = network.merchants[0].url
    for order in ("o-1", "o-2"):  # used already; a proof for another order
        body = {"order_id": order, "cart": {**CART, "codes": [token["handle"]]},
                "presented": [{"token": token["jws"], "proof": proof}]}  # fmt: skip
        answer = await http.post(f"{shop}/v1/redemptions", json=body, headers=operator)
        assert answer.status_code in (400, 409), answer.text


def test_no_secret_is_in_any_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Running, "start", start_talkative)
    network = make_network(tmp_path, merchants=1)

    async def run() -> set[str]:
        try:
            await network.start()
            return await use_everything(network)
        finally:
            await network.stop()

    canaries = asyncio.run(run())
    assert len(canaries) >= 12 and all(len(one) >= 16 for one in canaries), canaries
    for server in network.servers:
        text = (server.home / "server.log").read_text()
        assert text.count('"message":"request"') > 100, "it does write a log"
        assert "Traceback" not in text, server.log_tail()
        for canary in canaries:
            assert canary not in text, (server.name, canary)
