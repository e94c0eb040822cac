"""Say beforehand what a browser will not do with these files inside the hub's sandbox.

A frame has no network, no forms and no inline script, and it is served below a path that its
author does not know. None of this is wrong to sign; the page would only not look or work as meant.
So these are warnings, for `sconto merchant frame build` to show.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser

_URL_ATTRIBUTES = frozenset({"src", "href", "poster", "data", "srcset", "action", "background"})
_CSS_URL = re.compile(r"""url\(\s*['"]?([^'")]*)|@import\s+['"]([^'"]*)""", re.IGNORECASE)
_OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_NOT_ALLOWED = {
    "base": "has no effect: the frame's own addresses stay relative",
    "embed": "is not loaded",
    "form": "is not sent: shoppers clip with the hub's button",
    "iframe": "is not loaded",
    "object": "is not loaded",
}


@dataclass(frozen=True, slots=True)
class FrameWarning:
    """Something in a file that will not work in the hub's sandbox."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def lint_files(files: Mapping[str, bytes]) -> list[FrameWarning]:
    """Warnings about files by relative path (those that `build_frame` takes), in their order."""
    warnings: list[FrameWarning] = []
    for path, data in sorted(files.items()):
        text = data.decode("utf-8", "replace")
        if path.endswith((".html", ".css", ".js")) and "\ufffd" in text:
            warnings.append(FrameWarning(path, 1, "is not UTF-8, as which it will be served"))
        if path.endswith(".html"):
            warnings += _Page(path, files).read(text)
        elif path.endswith(".css"):
            warnings += _style(path, files, text, 1)
    return warnings


class _Page(HTMLParser):
    """Walks through a page and notes what will not work."""

    def __init__(self, path: str, files: Mapping[str, bytes]) -> None:
        super().__init__()
        self._path, self._files = path, files
        self._warnings: list[FrameWarning] = []
        self._inside = ""

    def read(self, text: str) -> list[FrameWarning]:
        try:
            self.feed(text)
            self.close()
        except AssertionError:  # what html.parser raises for a broken declaration
            self._warn("cannot be read further than here as HTML")
        return self._warnings

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._inside = "script" if tag == "script" and "src" not in values else tag
        if tag in _NOT_ALLOWED:
            self._warn(f"<{tag}> {_NOT_ALLOWED[tag]}")
        for name, value in attrs:
            if name.startswith("on"):
                self._warn(f"the handler {name!r} does not run: use addEventListener in a .js file")
            elif name == "style":
                self._warnings += _style(self._path, self._files, value or "", self._line)
            elif name in _URL_ATTRIBUTES and tag not in _NOT_ALLOWED:
                self._address(tag, name, value or "")

    def handle_data(self, data: str) -> None:
        if self._inside == "script" and data.strip():
            self._warn("inline script does not run: put it into a .js file of the frame")
        elif self._inside == "style":
            self._warnings += _style(self._path, self._files, data, self._line)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    @property
    def _line(self) -> int:
        return self.getpos()[0]

    def _address(self, tag: str, name: str, value: str) -> None:
        if tag in {"a", "area"}:
            if not value.startswith("#"):
                self._warn("a link leads nowhere: the frame may not navigate")
            return
        addresses = value.split(",") if name == "srcset" else [value]
        for address in addresses:
            words = address.split()
            if words and (said := _unreachable(self._path, self._files, words[0])):
                self._warn(said)

    def _warn(self, message: str) -> None:
        self._warnings.append(FrameWarning(self._path, self._line, message))


def _style(path: str, files: Mapping[str, bytes], text: str, line: int) -> list[FrameWarning]:
    warnings = []
    for found in _CSS_URL.finditer(text):
        address = (found[1] or found[2] or "").strip()
        if address and (said := _unreachable(path, files, address)):
            at = line + text.count("\n", 0, found.start())
            warnings.append(FrameWarning(path, at, said))
    return warnings


def _unreachable(path: str, files: Mapping[str, bytes], address: str) -> str | None:
    """Why an address in a file will not be loaded, if so."""
    if address.startswith(("#", "data:")):
        return None
    if _OUTSIDE.match(address):
        return f"{address[:80]!r} is not loaded: a frame has no network; add the file to it"
    if address.startswith("/"):
        return f"{address[:80]!r} is outside the frame: write it relative to this file"
    target = posixpath.normpath(
        posixpath.join(posixpath.dirname(path), re.split("[?#]", address)[0])
    )
    if target not in files:
        return f"{address[:80]!r} is not among the frame's files"
    return None
