"""Artifacts on their way to Prefect's server, in a thread beside the run: a server that is away holds up no stage.

Prefect's own client would try a request again for minutes. Here each request is tried once and quickly; what could not
be delivered is tried again later, in order, and dropped when too much waits or the run ends.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

MOST = 500
"""Letters that wait for a server that is away; beyond, the oldest go. A hundred iterations are some 3 MB."""
_TIMEOUT_S = 10.0
_AGAIN_S = 1.0, 15.0  # after a failure: at first, and at most
_log = logging.getLogger("azr")

Letter = Callable[["SyncPrefectClient"], None]
"""Sends one thing, reading what it says of sealed files; raises httpx.HTTPError or OSError when it cannot."""


class Post:
    """Delivers letters in the order given, from its first one to `close`."""

    def __init__(self) -> None:
        self._letters: deque[Letter] = deque(maxlen=MOST)
        self._latest: Letter | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._until: float | None = None  # when it is closed: how long there is to deliver the rest
        self._told = False

    def put(self, letter: Letter) -> None:
        """Have a letter delivered; returns at once."""
        with self._changed:
            self._letters.append(letter)
            self._began()

    def put_latest(self, letter: Letter) -> None:
        """The same for one that counts only until the next of its kind."""
        with self._changed:
            self._latest = letter
            self._began()

    def close(self, patience: float) -> None:
        """Deliver what waits, at most so many seconds long; what is left then is dropped, and said."""
        with self._changed:
            self._until = time.monotonic() + patience
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience + 0.5)
        if left := len(self._letters):
            _log.warning("Prefect's server did not take these in time, they are lost: %d artifacts", left)

    def _began(self) -> None:
        if self._thread is None:
            settled = contextvars.copy_context()  # Prefect's settings are those of whoever posts
            self._thread = threading.Thread(target=settled.run, args=(self._deliver_all,), name="azr-post", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _deliver_all(self) -> None:
        with _client() as client:
            while (letter := self._next()) is not None:
                self._deliver(letter, client)

    def _next(self) -> Letter | None:
        """The next letter, left in its place until it is delivered; None when there will be none."""
        with self._changed:
            while not self._letters and self._latest is None and self._until is None:
                self._changed.wait()
            if self._over():
                return None
            return self._letters[0] if self._letters else self._latest

    def _deliver(self, letter: Letter, client: SyncPrefectClient) -> None:
        pause, longest = _AGAIN_S
        while not self._sent(letter, client):
            if self._wait(pause):
                return
            pause = min(2 * pause, longest)
        self._done(letter)

    def _sent(self, letter: Letter, client: SyncPrefectClient) -> bool:
        """Whether this letter needs no other try: it is delivered, or can never be."""
        try:
            letter(client)
        except httpx.HTTPStatusError as error:
            self._tell(error)
            return error.response.status_code < 500
        except httpx.HTTPError as error:
            self._tell(error)
            return False
        except (OSError, ValueError) as error:  # a sealed file that cannot be read; an answer that is not Prefect's
            self._tell(error)
        return True

    def _wait(self, pause: float) -> bool:
        """Wait before another try; whether there is no time left for one."""
        with self._changed:
            if self._until is not None:
                pause = max(0.0, min(_AGAIN_S[0], self._until - time.monotonic()))
            self._changed.wait(pause)  # `close` ends it
            return self._over()

    def _over(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def _done(self, letter: Letter) -> None:
        with self._changed:
            if self._letters and self._letters[0] is letter:
                self._letters.popleft()
            elif self._latest is letter:
                self._latest = None

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            what = f"{type(error).__name__}: {error}"
            _log.warning("an artifact is late or lost, the run goes on; said once: %s", what)


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    """A client of this thread's own, which tries once."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    own = {"timeout": httpx.Timeout(_TIMEOUT_S)}  # with settings of its own it is not the client of the flow run
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(own, sync_client=True) as client:
        yield client
