"""Warnings about what a frame's files would not do inside the sandbox."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.frames import lint_files

GOOD = {
    "index.html": b"""<!doctype html>
<meta charset=utf-8>
<link rel=stylesheet href="css/f.css">
<style>h1 { background: url('img/a.png') }</style>
<h1 style="color:red">Milk</h1>
<img src="img/a.png" srcset="img/a.png 1x, ./img/a.png?v=2 2x" alt="">
<img src="data:image/png;base64,AA==" alt="">
<a href="#more">more</a> onclick="this is text"
<script src="js/a.js"></script>
""",
    "css/f.css": b"@font-face { src: url(../img/f.woff2) }\nh1 { background: url('../img/a.png') }",
    "js/a.js": b"location.hash",
    "img/a.png": b"",
    "img/f.woff2": b"\xff",
    "sub/page.html": b'<img src="../img/a.png">',
}


def test_a_frame_that_works_has_no_warning() -> None:
    assert lint_files(GOOD) == []


@pytest.mark.parametrize(
    ("html", "says"),
    [
        ("<script>go()</script>", "index.html:1: inline script does not run"),
        ("\n\n<script type=module>go()</script>", "index.html:3: inline script"),
        ('<p onclick="go()">', "the handler 'onclick' does not run"),
        ('<body ONLOAD="go()">', "the handler 'onload' does not run"),
        ('<img src="https://cdn.example/a.png">', "a frame has no network"),
        ('<img src="//cdn.example/a.png">', "a frame has no network"),
        ('<script src="https://cdn.example/a.js"></script>', "a frame has no network"),
        ('<img src="/img/a.png">', "outside the frame"),
        ('<img src="img/b.png">', "'img/b.png' is not among the frame's files"),
        ('<img srcset="img/a.png 1x, img/b.png 2x">', "'img/b.png' is not among"),
        ('<img src="../img/a.png">', "'../img/a.png' is not among"),
        ('<a href="https://shop.example">', "a link leads nowhere"),
        ("<form action=x>", "<form> is not sent"),
        ("<iframe src=x>", "<iframe> is not loaded"),
        ('<base href="/">', "<base> has no effect"),
        ('<p style="background:url(https://cdn.example/a.png)">', "a frame has no network"),
        ("<style>\np{background:url(b.png)}</style>", "index.html:2: 'b.png' is not among"),
        ("\u00e4", ""),
    ],
)
def test_what_will_not_work_is_said_with_its_line(html: str, says: str) -> None:
    warnings = [str(warning) for warning in lint_files({**GOOD, "index.html": html.encode()})]
    assert says in "\n".join(warnings)
    assert len(warnings) == bool(says)


def test_style_sheets_and_encodings_are_looked_at() -> None:
    files = {**GOOD, "css/f.css": b"@import 'x.css';\n\np { background: url(\"/a.png\") }"}
    assert [str(warning) for warning in lint_files(files)] == [
        "css/f.css:1: 'x.css' is not among the frame's files",
        "css/f.css:3: '/a.png' is outside the frame: write it relative to this file",
    ]
    assert "not UTF-8" in str(lint_files({**GOOD, "js/a.js": b"\xe4"})[0])


@given(
    st.binary(max_size=100)
    | st.text("<>!-[]/=\"' abcdataCDATAscriptstyleonsrchref&;:url()", max_size=80).map(str.encode)
)
def test_any_bytes_are_only_warned_about(data: bytes) -> None:
    for warning in lint_files({"index.html": data, "a.css": data, "a.js": data}):
        assert warning.line >= 1
