"""One call to a server's API, from the command line."""

import os
from pathlib import Path
from typing import Any

import httpx
import msgspec

from sconto.base.errors import InvalidInputError, LocalError, WireError
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
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
            trust_env=False,
        )

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        query: dict[str, str | None] | None = None,
    ) -> Any:
        """The decoded answer; raises LocalError in the server's own words for a problem."""
        content = body
        if document is not None:
            content = msgspec.json.encode(document)
        params = {k: v for k, v in (query or {}).items() if v is not None}
        try:
            answer = self._http.request(
                method,
                path,
                content=content,
                params=params,
                headers={"Content-Type": "application/json"} if content else {},
            )
        except httpx.HTTPError as error:
            raise WireError(
                f"{self.url} cannot be reached: {error}", field="--url", remedy="is it served?"
            ) from None
        if answer.status_code >= 400:
            raise _problem(answer)
        return msgspec.json.decode(answer.content) if answer.content else None


def _problem(answer: httpx.Response) -> LocalError:
    try:
        problem = msgspec.json.decode(answer.content)
        return LocalError(
            str(problem["detail"]),
            code=str(problem["code"]),
            field=problem.get("field"),
            remedy=problem.get("remedy"),
        )
    except (msgspec.DecodeError, KeyError, TypeError):
        return LocalError(f"the server answered {answer.status_code}", code="error")
