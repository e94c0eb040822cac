"""The command line starts fast: what only some commands need is imported by them."""

import subprocess
import sys

SLOW = ["alembic", "asyncio", "cryptography", "httpx", "litestar", "pandas", "rich", "sqlalchemy"]


def test_the_list_of_commands_imports_nothing_slow():
    code = f"import sconto.cli, sys; print([m for m in {SLOW} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
