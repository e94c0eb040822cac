"""The Python client's methods for codes, lint, sentences and dry runs, against a real merchant."""

import asyncio
from typing import Any

import httpx
import pytest

from sconto.client import MerchantClient, ProblemError
from sconto.servers.app import build_app
from sconto.terms import terms_from

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(shop: Any) -> Any:
    transport = httpx.ASGITransport(app=build_app(shop.server))
    async with MerchantClient(shop.url, shop.key, transport=transport) as made:
        yield made


async def test_unique_codes(client: Any, make_terms: Any, make_cart: Any) -> None:
    terms = terms_from(make_terms("p", access={"type": "unique_codes"}))
    await client.add_promotion(terms, launch=True)
    job = await client.make_codes("p", "j", 3, prefix="X-")
    while job["state"] == "running":
        await asyncio.sleep(0.01)
        job = await client.code_job("p", "j")
    text = b"".join([part async for part in client.export_codes("p", "j")]).decode()
    header, *codes = text.split()
    assert header == "code" and len(codes) == 3
    quote = await client.evaluate(make_cart(codes=(codes[0],)))
    assert [one["code"] for one in quote["evaluation"]["applied"]] == [codes[0]]
    imported = await client.import_codes("p", b"code\nANN-2026\n", job_id="mail")
    assert imported["done"] == 1
    listed = await client.code_jobs("p")
    assert [one["job_id"] for one in listed["code_jobs"]] == ["j", "mail"]
    with pytest.raises(ProblemError) as refused:
        async for _ in client.export_codes("p", "mail"):
            pass
    assert refused.value.code == "codes_not_kept"


async def test_authoring(client: Any, make_terms: Any, make_cart: Any) -> None:
    terms = terms_from(make_terms("p"))
    assert [one["code"] for one in (await client.lint(terms))["findings"]]
    tried = await client.evaluate(make_cart(), dry_run={"terms": [make_terms("p")]})
    assert [one["promotion_id"] for one in tried["evaluation"]["applied"]] == ["p"]
    await client.add_promotion(terms)
    assert (await client.sentence("p", language="de"))["language"] == "de"
