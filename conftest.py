"""Runs the code blocks of README.md and docs/ as tests.

A `python` block is executed; its names live on in the later blocks of the same document. A `bash`
block runs with `bash -euo pipefail` in a scratch directory that all blocks of the document share,
with the commands of `.venv` on its PATH; it fails as its last command does. A server that a block
leaves running writes its process id to a `*.pid` file there, and is ended with the document, also
when a block fails. Everything else (`console`, `text`, `json`, ...) is only shown.
`<!-- skip: next -->` passes over one block.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

HERE = Path(__file__).parent
MEMORY = Path("/dev/shm")

# Scratch data in memory: thousands of tests wait for their commits, and a machine that loses power
# is a matter of `make torture`. TMPDIR says otherwise.
if (
    "TMPDIR" not in os.environ
    and os.access(MEMORY, os.W_OK)
    and shutil.disk_usage(MEMORY).free > 2 << 30
):
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def run_bash(example: Example) -> str | None:
    directory = example.namespace["scratch"].name
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.parsed],
        cwd=directory,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"exit status {done.returncode}\n{done.stdout}"
    return None


def give_scratch(namespace: dict[str, Any]) -> None:
    namespace["scratch"] = tempfile.TemporaryDirectory(prefix="sconto-docs-")


def remove_scratch(namespace: dict[str, Any]) -> None:
    for file in Path(namespace["scratch"].name).glob("*.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(file.read_text()), signal.SIGKILL)
    namespace["scratch"].cleanup()


pytest_collect_file = Sybil(
    path=str(HERE),
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser(language="bash", evaluator=run_bash),
        SkipParser(),
    ],
    setup=give_scratch,
    teardown=remove_scratch,
).pytest()
