"""Status lists of the hubs, cached, so that a revoked token is known while its hub is away.

Revocation also comes as an event with the coupon information; the list is for tokens that are
presented before their hub has told of them.
"""

import asyncio
import logging

import httpx

from sconto.base.errors import InvalidInputError
from sconto.servers.app import Base
from sconto.tokens import TokenClaims, verify_status_list
from sconto.tokens.status_list import PublishedStatus

log = logging.getLogger("sconto.merchant")

#: Lists are fetched again after this long, whether their tokens come or not.
REFRESH_S = 300
ACCEPT = "application/statuslist+jwt"


class StatusLists:
    """The newest list of each shard that was ever needed."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._lists: dict[str, PublishedStatus] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def is_revoked(self, claims: TokenClaims) -> bool:
        """What the cached list says; a list that is not here yet is fetched for the next time.

        A checkout never waits for it: until then the token's own dates bound the risk.
        """
        if claims.status is None:
            return False
        reference = claims.status.status_list
        known = self._lists.get(reference.uri)
        if known is None or known.issued_at_ms < self._base.wall_clock() - REFRESH_S * 1000:
            self._fetch_soon(claims.iss, reference.uri)
        return known is not None and known.statuses.is_revoked(reference.idx)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _fetch_soon(self, hub: str, uri: str) -> None:
        running = self._tasks.get(uri)
        if not uri.startswith(f"{hub}/") or (running is not None and not running.done()):
            return
        self._tasks[uri] = asyncio.create_task(self._fetch(hub, uri), name=f"status list {uri}")

    async def _fetch(self, hub: str, uri: str) -> None:
        try:
            answer = await self._base.http.get(uri, headers={"Accept": ACCEPT})
            answer.raise_for_status()
            self._lists[uri] = verify_status_list(
                answer.text,
                self._base.directory.known_keys(hub),
                uri=uri,
                at_ms=self._base.wall_clock(),
            )
        except (httpx.HTTPError, InvalidInputError) as error:
            log.warning("a status list could not be fetched", extra={"uri": uri, "why": str(error)})
