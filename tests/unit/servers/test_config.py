"""A server's home: made once, private, locked while it is served; and the spelling of its URL."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sconto.base.errors import ConflictError, InvalidInputError
from sconto.servers.config import Home, check_url, create_home, load_home, lock_home


def random(count: int) -> bytes:
    return bytes(range(count))


def make(folder: Path, **changed: Any) -> Home:
    given = {"kind": "merchant", "name": "Shop", "url": "https://shop.example"} | changed
    return create_home(folder, now_ms=1_500_000_000_000, random=random, **given)


def same(one: Home, other: Home) -> bool:
    kids = [key.kid for key in one.keys] == [key.kid for key in other.keys]
    return kids and replace(one, keys=()) == replace(other, keys=())


# --- the home -------------------------------------------------------------------------------------


def test_a_home_is_read_as_it_was_made(tmp_path: Path) -> None:
    home = make(tmp_path / "shop", kind="hub", frames_url="http://127.0.0.1:8101/")
    assert same(load_home(tmp_path / "shop", "hub"), home)
    assert home.url == "https://shop.example"
    assert home.frames_url == "http://127.0.0.1:8101"
    assert home.profile_url == "https://shop.example/.well-known/ucp"
    assert home.database_url == f"sqlite:///{tmp_path / 'shop' / 'sconto.db'}"
    assert len(home.incarnation) == 26
    assert home.key is home.keys[0]
    assert len(home.secret) == 32


def test_a_home_is_private(tmp_path: Path) -> None:
    """Goal: keys and a database password are the owner's. Method: the modes, under a lax umask."""
    before = os.umask(0)
    try:
        make(tmp_path / "shop", database_url="postgresql://sconto:password@db/sconto")
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / "shop", *(tmp_path / "shop").iterdir()]
    }
    assert modes == {"shop": 0o700, "key.json": 0o600, "config.json": 0o600}


def test_a_home_in_a_log_tells_no_secret(tmp_path: Path) -> None:
    home = make(tmp_path, database_url="postgresql://sconto:password@db/sconto")
    text = repr(home)
    assert home.name in text
    assert "password" not in text
    assert repr(home.secret) not in text
    assert "signing" not in text


def test_a_home_is_made_once(tmp_path: Path) -> None:
    first = make(tmp_path)
    with pytest.raises(ConflictError) as refused:
        make(tmp_path, name="Another")
    assert (refused.value.code, refused.value.field) == ("already_exists", "home")
    assert same(load_home(tmp_path), first)
    (tmp_path / "config.json").unlink()  # what a crash in the middle of making leaves
    with pytest.raises(ConflictError):
        make(tmp_path)


def test_a_bad_home_is_not_begun(tmp_path: Path) -> None:
    """Goal: a refusal leaves nothing behind. Method: wrong input of each kind, then look."""
    for changed in (
        {"kind": "shop"},
        {"url": "ftp://shop.example"},
        {"frames_url": "http://frames.example"},
    ):
        with pytest.raises(InvalidInputError):
            make(tmp_path / "shop", **changed)
    assert not (tmp_path / "shop").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError) as refused:
        make(tmp_path / "file")
    assert refused.value.field == "home"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", ""),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("config.json", "null"),
        ("key.json", "{"),
        ("key.json", '{"signing": [], "secret": ""}'),
        ("key.json", '{"signing": ["AAAA"], "secret": "AAAA"}'),
        ("key.json", '{"signing": 1, "secret": 1}'),
        ("key.json", '{"signing": ["not base64!"], "secret": ""}'),
    ],
)
def test_a_damaged_home_is_said(tmp_path: Path, file: str, text: str) -> None:
    make(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(InvalidInputError, match="damaged") as refused:
        load_home(tmp_path)
    assert refused.value.field == "home"


def test_no_home_and_another_kind_are_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as refused:
        load_home(tmp_path / "nowhere")
    assert refused.value.code == "not_found"
    assert "init" in str(refused.value.remedy)
    make(tmp_path)
    with pytest.raises(InvalidInputError, match="home of a merchant"):
        load_home(tmp_path, "hub")


def test_keys_that_others_can_read_are_not_used(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "key.json").chmod(0o640)
    with pytest.raises(InvalidInputError) as refused:
        load_home(tmp_path)
    assert "chmod 600" in str(refused.value.remedy)


def test_keys_can_be_changed_and_the_newest_signs(tmp_path: Path) -> None:
    """Goal: key rotation by hand. Method: put a new seed first in key.json."""
    old = make(tmp_path)
    keys = json.loads((tmp_path / "key.json").read_text())
    keys["signing"].insert(0, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE")
    (tmp_path / "key.json").write_text(json.dumps(keys))
    home = load_home(tmp_path)
    assert home.key.kid != old.key.kid
    assert home.keys[1].kid == old.key.kid


def test_one_process_holds_a_home_and_lets_go_when_it_dies(tmp_path: Path) -> None:
    """Goal: two writers never. Method: a child holds the lock; we cannot; it is killed; we can."""
    home = make(tmp_path)
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path\n"
            "from sconto.servers.config import load_home, lock_home\n"
            "file = lock_home(load_home(Path(sys.argv[1])))\n"
            "print('held', flush=True); time.sleep(60)",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(ConflictError) as refused:
        lock_home(home)
    assert refused.value.code == "in_use"
    child.kill()
    child.wait()
    child.stdout.close()
    lock_home(home).close()
    lock_home(home).close()


# --- the URL --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "spelling"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("https://Shop.Example", "https://shop.example"),
        ("HTTPS://shop.example", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("https://shop.example:", "https://shop.example"),
        ("https://shop.example:8443/", "https://shop.example:8443"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:8001", "http://[::1]:8001"),
        ("https://xn--caf-dma.example", "https://xn--caf-dma.example"),
    ],
)
def test_a_url_has_one_spelling(url: str, spelling: str) -> None:
    assert check_url(url) == spelling
    assert check_url(spelling) == spelling


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "//shop.example",
        "ftp://shop.example",
        "https://",
        "https:///path",
        "https://:443",
        "http://shop.example",  # not encrypted, and not this machine
        "http://127.0.0.1.example",
        "https://shop.example/path",
        "https://shop.example?query",
        "https://shop.example#fragment",
        "https://user@shop.example",
        "https://user:secret@shop.example",
        "https://shop.example:port",
        "https://shop.example:99999",
        "https://shop.example:0",
        "https://[::1",
        "https://shop.example\n",
        "https://shop .example",
        " https://shop.example",
        "https://café.example",
        f"https://{'a' * 300}.example",
    ],
)
def test_anything_else_is_no_server(url: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_url(url, "peer.url")
    assert refused.value.field == "peer.url"
