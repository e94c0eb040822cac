"""The terminal face: everything that the servers' APIs do, and what is done before a server runs.

In: arguments and files. Out: text for people or, with --json, the API's own documents. A command
that changes a running server calls its API with the key in SCONTO_API_KEY; only `init`, `serve`,
`frame build` and `db` open a home folder themselves. An error is one line on standard error and
exit code 2.

    app.py         the commands of all servers: init, serve, tenants, keys, peers, ...
    promotions.py  promotions of a hub or merchant     merchant.py, wallet.py  their own commands
    authoring.py   terms in files, without a server    codes.py     a merchant's unique codes
    api.py         one call to a server                output.py    how a document is shown
"""

import os
import sys

from sconto.base.errors import ScontoError
from sconto.cli.app import app
from sconto.cli.output import say_error


def main() -> None:
    """Run a command; exit code 0, or 2 for whatever the caller can mend."""
    try:
        app()
    except ScontoError as error:
        say_error(error)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


__all__ = ["app", "main"]
