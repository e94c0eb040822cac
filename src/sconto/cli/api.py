"""One call to a server's API, from the command line."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sconto.base.errors import InvalidInputError, WireError

if TYPE_CHECKING:
    from sconto.client import Client

KEY_VARIABLE = "SCONTO_API_KEY"
URL_VARIABLE = "SCONTO_URL"


class Api:
    """A server, by its URL, with the key of the environment."""

    def __init__(self, url: str | None, home: Path | None = None) -> None:
        from sconto.servers.config import check_url, load_home

        if url is None and home is not None:
            url = load_home(home).url
        url = url or os.environ.get(URL_VARIABLE)
        if url is None:
            raise InvalidInputError(
                "say which server", field="--url", remedy=f"give --url or set {URL_VARIABLE}"
            )
        self.url = check_url(url, "--url")
        key = os.environ.get(KEY_VARIABLE)
        if not key:
            raise InvalidInputError(
                "this needs an API key",
                field=KEY_VARIABLE,
                remedy=f"set {KEY_VARIABLE}; as an argument others could see it",
            )
        self._key = key

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        media_type: str = "application/json",
        timeout_s: float | None = None,
        query: dict[str, str | None] | None = None,
    ) -> Any:
        """The decoded answer; raises ProblemError in the server's own words, or WireError."""

        options: dict[str, Any] = {} if timeout_s is None else {"timeout_s": timeout_s}

        async def one(client: "Client") -> Any:
            return await client.call(
                method, path, document, body=body, media_type=media_type, query=query, **options
            )

        return self._run(one)

    def download(self, path: str, write: Callable[[bytes], Any]) -> None:
        """Write a large answer down as it comes; raises like `call`, also when it breaks off."""

        async def all_of_it(client: "Client") -> None:
            async for part in client.stream(path):
                write(part)

        self._run(all_of_it)

    def _run(self, act: Callable[["Client"], Awaitable[Any]]) -> Any:
        import asyncio

        from sconto.client import Client

        async def with_client() -> Any:
            async with Client(self.url, self._key) as client:
                return await act(client)

        try:
            return asyncio.run(with_client())
        except WireError as error:
            error.field, error.remedy = "--url", "is it served?"
            raise
