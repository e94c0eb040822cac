"""Status lists of the hubs, cached, so that a revoked token is known while its hub is away.

Revocation also comes as an event with the coupon information; the list is for tokens that are
presented before their hub has told of them. What a list says is used like this:

1. A place that any verified list says is revoked stays revoked, however old the list is: a hub
   never takes a revocation back.
2. A list that is not here, or has expired, says nothing about the others. They are accepted: a
   merchant sells on while a hub is away, and the token's own end and uses bound the risk. That
   this happens is told in the log, and the list is asked for again.
3. Of two lists the newer one counts, whatever the hub sends last.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass

from sconto.base.errors import InvalidInputError, PeerError
from sconto.servers.app import Base
from sconto.servers.peers import fetch, gather_quietly
from sconto.tokens import TokenClaims, verify_status_list
from sconto.tokens.status_list import PublishedStatus

log = logging.getLogger("sconto.merchant")

#: Lists are fetched again after this long, whether their tokens come or not, or after their own
#: `ttl`, whichever is sooner.
REFRESH_S = 300
#: A hub that is away, or sent something wrong, is not asked again for this long.
TRY_AGAIN_S = 30
#: Lists that are kept, 16 KiB each; the one that was longest not needed goes first.
LISTS_MAX = 512
#: Lists that are fetched at the same time; more wait for the next token that needs them.
FETCHES_MAX = 16
ANSWER_BYTES_MAX = 64 * 1024
ACCEPT = "application/statuslist+jwt"


@dataclass(slots=True)
class _Known:
    """What is known of one list; `published` is None until it came for the first time."""

    published: PublishedStatus | None = None
    ask_at_ms: int = 0


class StatusLists:
    """The newest list of each shard that was needed of late."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._lists: OrderedDict[str, _Known] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._lists)

    def is_revoked(self, claims: TokenClaims) -> bool:
        """What the cached list says of a verified token; a checkout never waits for a list.

        A list that is missing, old or expired is fetched for the next time.
        """
        if claims.status is None:
            return False
        reference = claims.status.status_list
        now_ms = self._base.wall_clock()
        known = self._known(reference.uri)
        if known.ask_at_ms <= now_ms:
            self._fetch_soon(claims.iss, reference.uri, known)
        if known.published is None:
            return False
        return known.published.statuses.is_revoked(reference.idx)

    async def close(self) -> None:
        await gather_quietly(list(self._tasks.values()))

    def _known(self, uri: str) -> _Known:
        known = self._lists.get(uri)
        if known is None:
            known = self._lists[uri] = _Known()
            if len(self._lists) > LISTS_MAX:
                self._lists.popitem(last=False)
        self._lists.move_to_end(uri)
        return known

    def _fetch_soon(self, hub: str, uri: str, known: _Known) -> None:
        if not uri.startswith(f"{hub}/") or uri in self._tasks or len(self._tasks) >= FETCHES_MAX:
            return
        known.ask_at_ms = self._base.wall_clock() + TRY_AGAIN_S * 1000
        task = asyncio.create_task(self._fetch(hub, uri, known), name=f"status list {uri}")
        self._tasks[uri] = task
        task.add_done_callback(lambda _: self._tasks.pop(uri, None))

    async def _fetch(self, hub: str, uri: str, known: _Known) -> None:
        now_ms = self._base.wall_clock()
        try:
            answer = await fetch(self._base.http, uri, ANSWER_BYTES_MAX, accept=ACCEPT)
            if answer.status_code != 200:
                raise PeerError(f"{hub} answered {answer.status_code} for a status list", url=hub)
            published = verify_status_list(
                answer.text, self._base.directory.known_keys(hub), uri=uri, at_ms=now_ms
            )
        except (PeerError, InvalidInputError) as error:
            is_over = _is_over(known.published, now_ms)
            log.warning(
                "a status list could not be fetched",
                extra={"uri": uri, "why": str(error), "goes_by_expired_list": is_over},
            )
            return
        if known.published is None or known.published.issued_at_ms <= published.issued_at_ms:
            known.published = published
        fresh_until_ms = now_ms + min(REFRESH_S, published.ttl_s or REFRESH_S) * 1000
        if published.expires_at_ms is not None:
            fresh_until_ms = min(fresh_until_ms, published.expires_at_ms)
        known.ask_at_ms = max(fresh_until_ms, known.ask_at_ms)


def _is_over(published: PublishedStatus | None, now_ms: int) -> bool:
    """Whether a list is past its own end; one that never came is not."""
    return (
        published is not None
        and published.expires_at_ms is not None
        and published.expires_at_ms <= now_ms
    )
