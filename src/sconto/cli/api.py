"""One call to a server's API, from the command line."""

import asyncio
import os
from pathlib import Path
from typing import Any

from sconto.base.errors import InvalidInputError, WireError
from sconto.client import Client
from sconto.servers.config import check_url, load_home

KEY_VARIABLE = "SCONTO_API_KEY"
URL_VARIABLE = "SCONTO_URL"


class Api:
    """A server, by its URL, with the key of the environment."""

    def __init__(self, url: str | None, home: Path | None = None) -> None:
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
        query: dict[str, str | None] | None = None,
    ) -> Any:
        """The decoded answer; raises ProblemError in the server's own words, or WireError."""

        async def one() -> Any:
            async with Client(self.url, self._key) as client:
                return await client.call(method, path, document, body=body, query=query)

        try:
            return asyncio.run(one())
        except WireError as error:
            error.field, error.remedy = "--url", "is it served?"
            raise
