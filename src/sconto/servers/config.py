"""A server's home folder: what it is called, where its data is, and its secrets.

config.json   kind, name, public URL, database URL, incarnation
key.json      signing seeds (newest first) and the secret of pseudonyms and sessions; mode 0600
sconto.lock   held while a process writes, so that no second one does
"""

import fcntl
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from sconto.base.canonical import b64url, b64url_decode
from sconto.base.errors import ConflictError, InvalidInputError
from sconto.base.ids import ID_RANDOM_BYTES, new_id
from sconto.base.keys import SEED_BYTES, SigningKey

SERVER_KINDS = ("hub", "merchant", "wallet")
#: Ids of events are made of a peer's URL and a number, and are kept in 200 characters.
URL_LENGTH_MAX = 150
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Home:
    """What a server knows about itself before it opens its datastore."""

    folder: Path
    kind: str
    name: str
    #: Public base URL without a trailing slash: the server's id in the network.
    url: str
    database_url: str = field(repr=False)  # may have a password in it
    #: Id of this copy of the datastore; a restored backup gets a new one.
    incarnation: str
    #: Hub: origin that serves the merchants' frames, apart from its own.
    frames_url: str | None
    keys: tuple[SigningKey, ...]
    secret: bytes = field(repr=False)
    #: This process's number from 0, where several serve the home; None: there is but one.
    process: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process does what is done once for all: delivery, expiry, making codes."""
        return not self.process

    @property
    def key(self) -> SigningKey:
        """The key that signs now."""
        return self.keys[0]

    @property
    def profile_url(self) -> str:
        return f"{self.url}/.well-known/ucp"


def check_url(url: str, field: str = "url") -> str:
    """A public base URL in its one spelling, since it is a server's id in the network.

    https, or http on this machine; no path, query, user, trailing slash or default port; host in
    lower case. Raises InvalidInputError for anything else.
    """
    is_text = url.isascii() and url.isprintable() and " " not in url
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket without its twin, a port that is no number
        raise InvalidInputError(f"{url!r} is not an http(s) URL", field=field) from None
    if not is_text or not is_url:
        raise InvalidInputError(f"{url!r} is not an http(s) URL", field=field)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise InvalidInputError(
            f"{url} is not encrypted",
            field=field,
            remedy="use https; http is for this machine only",
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise InvalidInputError(
            f"{url} must be scheme, host and port only", field=field, remedy="leave the rest out"
        )
    if len(url) > URL_LENGTH_MAX:
        raise InvalidInputError(f"a URL has at most {URL_LENGTH_MAX} characters", field=field)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def create_home(
    folder: Path,
    *,
    kind: str,
    name: str,
    url: str,
    now_ms: int,
    random: Callable[[int], bytes],
    database_url: str | None = None,
    frames_url: str | None = None,
) -> Home:
    """Make a home with new keys; refuses a folder that has one.

    Raises ConflictError where there is a home already, InvalidInputError for a bad URL or kind, or
    a folder that cannot be made.
    """
    url = check_url(url)
    if kind not in SERVER_KINDS:
        raise InvalidInputError(f"{kind} is not a kind of server", field="kind")
    if (folder / "config.json").exists() or (folder / "key.json").exists():
        raise ConflictError(
            f"{folder} is the home of a server already",
            code="already_exists",
            field="home",
            remedy="serve it, or choose another folder",
        )
    config = {
        "kind": kind,
        "name": name,
        "url": url,
        "database_url": database_url or _sqlite_url(folder / "sconto.db"),
        "incarnation": new_id(now_ms, random(ID_RANDOM_BYTES)),
        "frames_url": None if frames_url is None else check_url(frames_url, "frames_url"),
    }
    secrets = {"signing": [b64url(random(SEED_BYTES))], "secret": b64url(random(32))}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(folder / "key.json", json.dumps(secrets, indent=2))
        # Private too: the database URL may have a password in it.
        _write_private(folder / "config.json", json.dumps(config, indent=2))
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written: {error}", field="home") from None
    return load_home(folder)


def load_home(folder: Path, kind: str | None = None, *, is_restoring: bool = False) -> Home:
    """Read a home; `kind` is what it must be, where given.

    Raises InvalidInputError when there is none, it is of another kind, or others can read its keys.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        key_file = folder / "key.json"
        if key_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InvalidInputError(
                f"{key_file} can be read by others",
                field="home",
                remedy=f"chmod 600 {key_file}, and make new keys if somebody may have seen them",
            )
        secrets = json.loads(key_file.read_text())
        home = Home(
            folder=folder,
            kind=config["kind"],
            name=config["name"],
            url=config["url"],
            database_url=config["database_url"],
            incarnation=config["incarnation"],
            frames_url=config["frames_url"],
            keys=tuple(SigningKey.from_seed(b64url_decode(s)) for s in secrets["signing"]),
            secret=b64url_decode(secrets["secret"]),
        )
        if not home.keys or len(home.secret) < SEED_BYTES:
            raise ValueError("a key is missing")
    except FileNotFoundError:
        raise InvalidInputError(
            f"{folder} is not the home of a server",
            code="not_found",
            field="home",
            remedy="make one with `sconto hub|merchant|wallet init`",
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be read: {error}", field="home") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"{folder} is damaged: {error!r}", field="home") from None
    if config.get(_RESTORING) and not is_restoring:
        raise InvalidInputError(
            f"the restore of {folder} was not finished",
            code="restore_unfinished",
            field="home",
            remedy=f"run `sconto {home.kind} restore` again",
        )
    if kind is not None and home.kind != kind:
        raise InvalidInputError(f"{folder} is the home of a {home.kind}", field="home")
    return home


def renew_incarnation(folder: Path, kind: str, now_ms: int, random: Callable[[int], bytes]) -> Home:
    """Give a restored home a new incarnation, and keep it from serving until `end_restore`.

    Begun before and not ended: goes on with the same new incarnation.
    """
    config = _read_config(folder)
    if not config.get(_RESTORING):
        load_home(folder, kind)
        config = {
            **config,
            "incarnation": new_id(now_ms, random(ID_RANDOM_BYTES)),
            _RESTORING: config["incarnation"],
        }
        _replace_private(folder / "config.json", json.dumps(config, indent=2))
    return load_home(folder, kind, is_restoring=True)


def end_restore(folder: Path) -> None:
    """The datastore has followed: the home may serve again."""
    config = _read_config(folder)
    config.pop(_RESTORING, None)
    _replace_private(folder / "config.json", json.dumps(config, indent=2))


def incarnation_before(folder: Path) -> str:
    """The incarnation that a home had before its restore began."""
    return str(_read_config(folder).get(_RESTORING, ""))


#: In `config.json` while a restore is under way: the incarnation before.
_RESTORING = "restoring"


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{folder} cannot be read: {error}", field="home") from None
    if not isinstance(config, dict):
        raise InvalidInputError(f"{folder} is damaged", field="home")
    return config


def _replace_private(path: Path, text: str) -> None:
    """Write a file anew, whole or not at all."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    _write_private(new, text)
    new.replace(path)


def lock_home(home: Home) -> IO[str]:
    """Hold the home for writing until the file is closed; refuses while another process does."""
    file = (home.folder / "sconto.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConflictError(
            f"a process is serving {home.folder}",
            code="in_use",
            field="home",
            remedy="use its API, or stop it first",
        ) from None
    return file


def _sqlite_url(path: Path) -> str:
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path.resolve())).render_as_string()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
