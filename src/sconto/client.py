"""The Python client: a hub, a merchant or a wallet over HTTP, with an API key.

In: values. Out: the servers' own documents as JSON values. A problem (RFC 9457) is raised as
`ProblemError` with its code and field; a server that cannot be reached as `WireError`. Every call
that changes something carries an id of the caller's, so that it may be repeated after a lost reply.

    async with MerchantClient("https://shop.example", api_key) as shop:
        order = await shop.redeem(order_id="o-1", cart=cart, client="card-1234")
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec

from sconto.base.clock import rfc3339, to_ms
from sconto.base.errors import PeerError, WireError
from sconto.terms import Terms, encode_terms

Json = Any
TIMEOUT_S = 60.0
#: A file of a million codes is answered once all of it is stored.
IMPORT_TIMEOUT_S = 600.0


class ProblemError(PeerError):
    """The server refused, in its own words: `code`, `field`, `remedy`, `status`, `problem`."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(
            str(problem.get("detail", f"the server answered {status}")),
            code=str(problem.get("code", "error")),
            field=problem.get("field"),
            remedy=problem.get("remedy"),
        )
        self.status = status
        self.problem = dict(problem)


class Client:
    """What all servers have; close it, or use it as a context."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=TIMEOUT_S,
            trust_env=False,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        document: Json = None,
        *,
        body: bytes | None = None,
        media_type: str = "application/json",
        timeout_s: float = TIMEOUT_S,
        query: Mapping[str, Any] | None = None,
    ) -> Json:
        """One request; None in the top level of `document` and `query` means "not given"."""
        if isinstance(document, dict):
            document = {name: value for name, value in document.items() if value is not None}
        content = body if document is None else msgspec.json.encode(document)
        try:
            answer = await self._http.request(
                method,
                path,
                content=content,
                params={k: v for k, v in (query or {}).items() if v is not None},
                headers={"Content-Type": media_type} if content is not None else {},
                timeout=timeout_s,
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.status_code >= 400:
            raise ProblemError(answer.status_code, _problem(answer))
        return msgspec.json.decode(answer.content) if answer.content else None

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """A large answer in parts, as they come; WireError also when it breaks off."""
        try:
            async with self._http.stream("GET", path) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    raise ProblemError(answer.status_code, _problem(answer))
                async for part in answer.aiter_bytes():
                    yield part
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.HTTPError) -> WireError:
        why = str(error) or type(error).__name__
        return WireError(f"{self.url} cannot be reached: {why}", url=self.url)

    async def is_ready(self) -> bool:
        """Whether the server serves requests."""
        try:
            await self.call("GET", "/readyz")
        except PeerError:
            return False
        return True

    async def add_tenant(self, tenant_id: str, kind: str, name: str) -> Json:
        document = {"tenant_id": tenant_id, "kind": kind, "name": name}
        return await self.call("POST", "/v1/tenants", document)

    async def add_key(self, tenant_id: str, scopes: Iterable[str], label: str = "key") -> Json:
        document = {"scopes": list(scopes), "label": label}
        return await self.call("POST", f"/v1/tenants/{_in_path(tenant_id)}/keys", document)

    async def revoke_key(self, tenant_id: str, key_id: str) -> None:
        path = f"/v1/tenants/{_in_path(tenant_id)}/keys/{_in_path(key_id)}"
        await self.call("DELETE", path)

    async def peers(self) -> list[Json]:
        """The registered servers."""
        answer = await self.call("GET", "/v1/peers")
        return list(answer["peers"])

    async def add_peer(
        self, url: str, *, kind: str, tenant_id: str, scopes: Iterable[str] | None = None
    ) -> Json:
        document = {
            "url": url,
            "kind": kind,
            "tenant_id": tenant_id,
            "scopes": None if scopes is None else list(scopes),
        }
        return await self.call("POST", "/v1/peers", document)

    async def exchange(self) -> Json:
        """What waits for each peer, and what was parked."""
        return await self.call("GET", "/v1/exchange")

    async def statistics(self, *, promotion_id: str | None = None, by: str = "promotion") -> Json:
        """Rows by promotion, merchant, day (joined by commas), totals, refusals by reason."""
        query = {"promotion_id": promotion_id, "by": by}
        return await self.call("GET", "/v1/statistics", query=query)


class PromoterClient(Client):
    """A server that promises: a hub, or a merchant for promotions of its own."""

    async def add_promotion(
        self, terms: Terms, *, launch: bool = False, tenant_id: str | None = None
    ) -> Json:
        """Publish the first version of terms."""
        document = {
            "terms": msgspec.Raw(encode_terms(terms)),
            "launch": launch,
            "tenant_id": tenant_id,
        }
        return await self.call("POST", "/v1/promotions", document)

    async def add_version(self, terms: Terms) -> Json:
        """Publish the next version of terms."""
        path = f"/v1/promotions/{_in_path(terms.promotion_id)}/versions"
        return await self.call("POST", path, {"terms": msgspec.Raw(encode_terms(terms))})

    async def act(self, promotion_id: str, act: str) -> Json:
        """`launch`, `pause` or `end` a promotion."""
        return await self.call("POST", f"/v1/promotions/{_in_path(promotion_id)}/{act}")

    async def top_up(
        self, promotion_id: str, top_up_id: str, *, uses: int = 0, amount_minor: int = 0
    ) -> Json:
        """Add to a budget, once per `top_up_id`."""
        document = {"top_up_id": top_up_id, "uses": uses, "amount_minor": amount_minor}
        return await self.call("POST", f"/v1/promotions/{_in_path(promotion_id)}/top-ups", document)

    async def promotion(self, promotion_id: str) -> Json:
        return await self.call("GET", f"/v1/promotions/{_in_path(promotion_id)}")

    async def promotions(
        self, *, after: str | None = None, limit: int | None = None, status: str | None = None
    ) -> Json:
        query = {"after": after, "limit": limit, "status": status}
        return await self.call("GET", "/v1/promotions", query=query)

    async def lint(self, terms: Terms) -> Json:
        """What to look at again before terms are published."""
        return await self.call("POST", "/v1/lint", {"terms": msgspec.Raw(encode_terms(terms))})

    async def sentence(self, promotion_id: str, *, language: str = "en") -> Json:
        """What a promotion promises, in one sentence."""
        path = f"/v1/promotions/{_in_path(promotion_id)}/sentence"
        return await self.call("GET", path, query={"lang": language})


class HubClient(PromoterClient):
    """A hub."""

    async def frames(
        self,
        *,
        merchant: str | None = None,
        promotion_id: str | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """Frames that are shown now, the newest first, with their offers."""
        query = {
            "merchant": merchant,
            "promotion_id": promotion_id,
            "before": before,
            "limit": limit,
        }
        return await self.call("GET", "/v1/frames", query=query)

    async def frame(self, frame_id: str) -> Json:
        """One frame with its manifest and signature."""
        return await self.call("GET", f"/v1/frames/{_in_path(frame_id.rpartition(';')[2])}")

    async def terms(self, terms_digest: str) -> Json:
        """The terms that a digest names, with their signature."""
        return await self.call("GET", f"/v1/terms/{quote(terms_digest, safe='/:=+')}")

    async def revoke_token(self, token_id: str, reason: str) -> Json:
        path = f"/v1/tokens/{_in_path(token_id)}/revoke"
        return await self.call("POST", path, {"reason": reason})


class MerchantClient(PromoterClient):
    """A merchant's server, for its shop and its tills."""

    async def accept(
        self, hub: str, promotion_ids: Iterable[str] = (), *, all_of_them: bool = False
    ) -> Json:
        """Take part in promotions of a hub."""
        document = {"hub": hub, "promotion_ids": list(promotion_ids), "all": all_of_them}
        return await self.call("POST", "/v1/acceptances", document)

    async def publish_frame(self, bundle: bytes) -> Json:
        """Keep a built frame and distribute it to its hub."""
        return await self.call("POST", "/v1/frames", body=bundle)

    async def evaluate(
        self,
        cart: Json,
        *,
        client: str | None = None,
        presented: Iterable[Json] = (),
        order_id: str | None = None,
        at: datetime | None = None,
        dry_run: Json = None,
    ) -> Json:
        """What a cart gets; nothing is spent. A dry run supposes `at`, `terms`, drafts."""
        document = {**_checkout(order_id, cart, client, presented, at), "dry_run": dry_run}
        return await self.call("POST", "/v1/evaluations", document)

    async def reserve(
        self,
        *,
        order_id: str,
        cart: Json,
        client: str | None = None,
        presented: Iterable[Json] = (),
        at: datetime | None = None,
        ttl_s: int | None = None,
    ) -> Json:
        """Hold what a cart gets until it is redeemed, released or expires."""
        document = {**_checkout(order_id, cart, client, presented, at), "ttl_s": ttl_s}
        return await self.call("POST", "/v1/reservations", document)

    async def make_codes(
        self, promotion_id: str, job_id: str, count: int, *, prefix: str = ""
    ) -> Json:
        """Start a job that makes unique codes, or look at it: once per `job_id`."""
        document = {"job_id": job_id, "count": count, "prefix": prefix}
        return await self.call("POST", _code_jobs(promotion_id), document)

    async def code_jobs(self, promotion_id: str) -> Json:
        return await self.call("GET", _code_jobs(promotion_id))

    async def code_job(self, promotion_id: str, job_id: str) -> Json:
        """How far a job has come."""
        return await self.call("GET", _code_jobs(promotion_id, job_id))

    def export_codes(self, promotion_id: str, job_id: str) -> AsyncIterator[bytes]:
        """The codes of a job, as CSV in parts."""
        return self.stream(f"{_code_jobs(promotion_id, job_id)}/codes.csv")

    async def import_codes(
        self, promotion_id: str, csv: bytes, *, job_id: str | None = None
    ) -> Json:
        """Import a CSV file with a column `code`; all of it or nothing."""
        path = f"/v1/promotions/{_in_path(promotion_id)}/codes/import"
        return await self.call(
            "POST",
            path,
            body=csv,
            media_type="text/csv",
            timeout_s=IMPORT_TIMEOUT_S,
            query={"job_id": job_id},
        )

    async def redeem_reserved(self, order_id: str) -> Json:
        return await self.call("POST", f"/v1/reservations/{_in_path(order_id)}/redeem")

    async def release(self, order_id: str) -> Json:
        return await self.call("POST", f"/v1/reservations/{_in_path(order_id)}/release")

    async def redeem(
        self,
        *,
        order_id: str,
        cart: Json,
        client: str | None = None,
        presented: Iterable[Json] = (),
        at: datetime | None = None,
    ) -> Json:
        """Evaluate a cart and redeem what it gets, at once."""
        document = _checkout(order_id, cart, client, presented, at)
        return await self.call("POST", "/v1/redemptions", document)

    async def reverse(
        self, order_id: str, reversal_id: str, lines: Mapping[str, int] | None = None
    ) -> Json:
        """Take units back by line id; everything that is left where no lines are given."""
        document = {
            "reversal_id": reversal_id,
            "lines": [{"line_id": k, "quantity": v} for k, v in (lines or {}).items()],
        }
        return await self.call("POST", f"/v1/orders/{_in_path(order_id)}/reversals", document)

    async def withdraw_frame(self, hub: str, frame_id: str, sequence: int) -> Json:
        """Take a frame back, by a higher sequence than any before."""
        document = {"hub": hub, "frame_id": frame_id, "sequence": sequence}
        return await self.call("POST", "/v1/frames/withdrawals", document)

    async def order(self, order_id: str) -> Json:
        return await self.call("GET", f"/v1/orders/{_in_path(order_id)}")

    async def count_orders(self) -> int:
        """How many orders there are."""
        answer = await self.call("GET", "/v1/orders", query={"limit": 1})
        return int(answer["total"])

    async def link_code(self, client: str) -> str:
        """The nonce for the proof of a shopper who is signed in at this merchant."""
        answer = await self.call("POST", f"/v1/clients/{_in_path(client)}/link-codes")
        return str(answer["nonce"])

    async def coupon_information(
        self,
        *,
        client: str | None = None,
        token_id: str | None = None,
        handle: str | None = None,
    ) -> list[Json]:
        """What the hub told of a client's tokens."""
        query = {"client": client, "token_id": token_id, "handle": handle}
        answer = await self.call("GET", "/v1/coupon-information", query=query)
        return list(answer["coupons"])


class WalletClient(Client):
    """A wallet server, for one shopper's key or for all accounts with `accounts:write`."""

    async def add_account(self, account_id: str, name: str | None = None) -> Json:
        """Open an account; its key is in the answer and nowhere else."""
        return await self.call("POST", "/v1/accounts", {"account_id": account_id, "name": name})

    async def add_accounts(self, account_ids: Iterable[str]) -> Json:
        """Open many accounts, without keys."""
        return await self.call("POST", "/v1/accounts/batch", {"account_ids": list(account_ids)})

    async def clip(
        self,
        *,
        clip_id: str,
        hub: str,
        frame_id: str,
        promotion_id: str,
        account_id: str | None = None,
        at: datetime | None = None,
    ) -> Json:
        """Clip an offer; gives the token that the hub issued."""
        document = {
            "clip_id": clip_id,
            "hub": hub,
            "frame_id": frame_id,
            "promotion_id": promotion_id,
            "account_id": account_id,
            "at": _instant(at),
        }
        return await self.call("POST", "/v1/clips", document)

    async def take_offer(self, credential_offer_uri: str, account_id: str | None = None) -> Json:
        """Take a credential offer that a hub's gallery made (OpenID4VCI)."""
        document = {"credential_offer_uri": credential_offer_uri, "account_id": account_id}
        return await self.call("POST", "/v1/credential-offers", document)

    async def account(self, account_id: str) -> Json:
        """An account and the key that holds its tokens."""
        return await self.call("GET", f"/v1/accounts/{_in_path(account_id)}")

    async def add_account_key(self, account_id: str) -> Json:
        """Another API key of an account; it is in the answer and nowhere else."""
        return await self.call("POST", f"/v1/accounts/{_in_path(account_id)}/keys")

    async def tokens(
        self,
        *,
        account_id: str | None = None,
        status: str | None = None,
        merchant: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of an account's tokens; `next` in the answer is the `after` of the next page."""
        query = {
            "account_id": account_id,
            "status": status,
            "merchant": merchant,
            "after": after,
            "limit": limit,
        }
        return await self.call("GET", "/v1/tokens", query=query)

    async def token(self, token_id: str, *, account_id: str | None = None) -> Json:
        """One token, with the token itself and what it was used for."""
        query = {"account_id": account_id}
        return await self.call("GET", f"/v1/tokens/{_in_path(token_id)}", query=query)

    async def give_up(self, token_id: str, *, account_id: str | None = None) -> None:
        """Have a token revoked and put away."""
        query = {"account_id": account_id}
        await self.call("DELETE", f"/v1/tokens/{_in_path(token_id)}", query=query)

    async def move(
        self, token_id: str, *, move_id: str, merchant: str, account_id: str | None = None
    ) -> Json:
        """Have a token moved to another merchant; again: how far that has come."""
        document = {"move_id": move_id, "merchant": merchant, "account_id": account_id}
        return await self.call("POST", f"/v1/tokens/{_in_path(token_id)}/moves", document)

    async def choose(
        self,
        merchant: str,
        cart: Json,
        *,
        account_id: str | None = None,
        at: datetime | None = None,
    ) -> Json:
        """The tokens that are worth presenting with a cart at a merchant."""
        document = {
            "merchant": merchant,
            "cart": cart,
            "account_id": account_id,
            "at": _instant(at),
        }
        return await self.call("POST", "/v1/choices", document)

    async def present(
        self,
        token_id: str,
        order_id: str,
        *,
        account_id: str | None = None,
        nonce: str | None = None,
        path: str | None = None,
        at: datetime | None = None,
    ) -> Json:
        """Token and proof for one order at the token's merchant, sent there to `path` by POST."""
        document = {
            "token_id": token_id,
            "order_id": order_id,
            "account_id": account_id,
            "nonce": nonce,
            "path": path,
            "at": _instant(at),
        }
        return await self.call("POST", "/v1/presentations", document)

    async def link(
        self, *, token_id: str, client: str, nonce: str, account_id: str | None = None
    ) -> Json:
        """Prove to a token's merchant who a client is; `nonce` is the merchant's link code."""
        document = {
            "token_id": token_id,
            "client": client,
            "nonce": nonce,
            "account_id": account_id,
        }
        return await self.call("POST", "/v1/links", document)

    async def savings(self, *, account_id: str | None = None) -> Json:
        return await self.call("GET", "/v1/savings", query={"account_id": account_id})


def _checkout(
    order_id: str | None,
    cart: Json,
    client: str | None,
    presented: Iterable[Json],
    at: datetime | None,
) -> dict[str, Json]:
    document = {"order_id": order_id, "cart": cart, "client": client, "at": _instant(at)}
    shown = list(presented)
    return {**document, "presented": shown} if shown else document


def _code_jobs(promotion_id: str, job_id: str | None = None) -> str:
    path = f"/v1/promotions/{_in_path(promotion_id)}/code-jobs"
    return path if job_id is None else f"{path}/{_in_path(job_id)}"


def _instant(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(to_ms(at))


def _in_path(text: str) -> str:
    return quote(text, safe="")


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        problem = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}
