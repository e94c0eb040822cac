"""An event loop without a world: time is a number, and a seed says who goes next.

Every host (a server, or the shoppers) has a queue of callbacks of its own, which run in order, as
asyncio promises within one process. Which host goes next is drawn. When nobody is ready, time jumps
to the next timer. What would need the real world (sockets, signals, processes) is not there:
`AbstractEventLoop` raises NotImplementedError. Work for a thread is one more step of its host.

A host dies without cleaning up: its callbacks and timers are dropped and its coroutines are kept
untouched until the run is over, so that no `finally` of theirs runs, as after `kill -9`.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar, TypeVarTuple

from sconto.base.errors import InvariantError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: A run that takes more steps than this goes round in circles.
STEPS_MAX = 2_000_000


class Life:
    """One life of a host, from its start to its crash; a restarted host has a new one."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.is_over = False

    def __repr__(self) -> str:
        return f"<{self.host}{' (over)' if self.is_over else ''}>"


LIFE: contextvars.ContextVar[Life] = contextvars.ContextVar("life")


class Loop(asyncio.AbstractEventLoop):
    """`schedule` draws which host goes next; time begins at `now`, in seconds."""

    def __init__(self, schedule: Random, now: float = 0.0) -> None:
        self._schedule = schedule
        self._now = now
        self._count = 0
        self._ready: dict[str, deque[asyncio.Handle]] = {}
        self._hosts: list[str] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        #: All tasks that were made, so that none is collected while the run lasts.
        self.tasks: list[asyncio.Task[Any]] = []
        self.failures: list[str] = []
        self.steps = 0
        self.on_step: Callable[[str], None] = lambda host: None
        self._root = contextvars.Context()
        self._root.run(LIFE.set, Life("world"))

    def context_of(self, life: Life) -> contextvars.Context:
        """A context in which everything that is started belongs to `life`."""
        context = self._root.copy()
        context.run(LIFE.set, life)
        return context

    # --- what asyncio asks of a loop --------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._put(handle, _life_of(context))
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + max(delay, 0.0), callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = context or contextvars.copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked of a loop when a timer is cancelled; it is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        return task

    def run_in_executor(
        self, executor: Any, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Work for a thread: one step of the host that asked for it."""
        if executor is not None:
            raise NotImplementedError("there are no executors in the simulation")
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_soon(work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(f"{context.get('message')}: {error!r}")

    # --- running ----------------------------------------------------------------------------------

    def run_until(self, done: Callable[[], bool]) -> None:
        """Step until `done()`, which is asked after each step."""
        asyncio.events._set_running_loop(self)
        try:
            while not done():
                if not self._step():
                    raise InvariantError("nothing is ready and no timer runs, but it is not over")
        finally:
            asyncio.events._set_running_loop(None)

    def finish(self) -> None:
        """Let go of what is suspended, after the run; what it still does has no effect."""
        self._ready.clear()
        self._hosts.clear()
        self._timers.clear()
        asyncio.events._set_running_loop(self)
        try:
            for task in self.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    try:
                        task.get_coro().close()
                    except BaseException as error:
                        self.failures.append(f"after the end: {error!r}")
        finally:
            asyncio.events._set_running_loop(None)
            self.tasks.clear()
            self._ready.clear()
            self._timers.clear()

    def _put(self, handle: asyncio.Handle, life: Life) -> None:
        if life.is_over:
            return
        queue = self._ready.get(life.host)
        if queue is None:
            queue = self._ready[life.host] = deque()
            self._hosts.append(life.host)
        elif not queue:
            self._hosts.append(life.host)
        queue.append(handle)

    def _step(self) -> bool:
        while self._timers and (not self._hosts or self._timers[0][0] <= self._now):
            when, _, timer = heapq.heappop(self._timers)
            life = _life_of(timer._context)  # type: ignore[attr-defined]
            if not timer.cancelled() and not life.is_over:
                self._now = max(self._now, when)
                self._put(timer, life)
        if not self._hosts:
            return False
        place = self._schedule.randrange(len(self._hosts)) if len(self._hosts) > 1 else 0
        host = self._hosts[place]
        queue = self._ready[host]
        handle = queue.popleft()
        if not queue:
            self._hosts[place] = self._hosts[-1]
            self._hosts.pop()
        life = _life_of(handle._context)  # type: ignore[attr-defined]
        if handle.cancelled() or life.is_over:
            return True
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise InvariantError(f"more than {STEPS_MAX} steps")
        handle._run()
        self.on_step(host)
        return True


def _life_of(context: contextvars.Context) -> Life:
    life: Life = context[LIFE]
    return life
