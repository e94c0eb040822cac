"""Structured logs: one JSON object a line on standard error, made of chosen fields only.

No header, body, query or token is ever logged; what is logged of a request is its route, not its
path. Words of others that an error repeats are searched for secrets before they are written.
"""

import atexit
import contextlib
import logging
import sys
import threading
import time
from typing import TextIO

import msgspec

from sconto.base.clock import rfc3339
from sconto.servers.problems import without_secrets

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": rfc3339(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "log": record.name,
            "message": record.getMessage(),
        }
        line.update({k: v for k, v in vars(record).items() if k not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        written = msgspec.json.encode(line, enc_hook=str).decode()
        # The line of a request is made of our own words only, and there are very many of them.
        if record.name == "sconto.http" and not record.exc_info:
            return written
        return without_secrets(written)


class BufferedHandler(logging.Handler):
    """Writes lines together, within `DELAY_S`; what is a warning or worse at once.

    A system call for every request costs as much as reading its body, and while one thread is in
    it, Python gives the turn to the other.
    """

    DELAY_S = 0.1
    LINES_MAX = 256

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self._lines: list[str] = []
        self._is_due = threading.Event()
        self._flushing = threading.Thread(target=self._flush_when_due, name="logs", daemon=True)
        self._flushing.start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + "\n")
            if record.levelno >= logging.WARNING or len(self._lines) >= self.LINES_MAX:
                self.flush()
            elif len(self._lines) == 1:
                self._is_due.set()
        except Exception:  # as logging wants it: a log that fails stops nobody
            self.handleError(record)

    def flush(self) -> None:
        """Write what waits."""
        with self.lock or contextlib.nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
                self.stream.flush()

    def close(self) -> None:
        self.flush()
        atexit.unregister(self.flush)
        super().close()

    def _flush_when_due(self) -> None:
        while True:
            self._is_due.wait()
            self._is_due.clear()
            time.sleep(self.DELAY_S)
            with contextlib.suppress(OSError, ValueError):  # nobody reads, or closed at the end
                self.flush()


def start_logging(level: str = "info", *, is_buffered: bool = True) -> None:
    """Send all logs of this process to standard error; not buffered, there is no thread for it."""
    handler = BufferedHandler(sys.stderr) if is_buffered else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # No line of ours says where in the code or in which process or task it was made, and looking
    # that up costs more than the rest (the way is that of Python's "Logging HOWTO").
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, None)
    for name in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(name).setLevel("WARNING")
