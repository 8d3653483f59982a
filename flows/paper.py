"""What a flow over history leaves on its page of the UI: how far it is, and its report as text."""

from __future__ import annotations

import re
import time
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

_EVERY_S = 1.0
_LONGEST = 200_000  # characters of a report; its end says what to do, so the middle goes


class Progress:
    """A gauge whose scale is a progress artifact, made when the job takes longer than a second."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._artifact: UUID | None = None
        self._told = time.monotonic()

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """So much is done; told at most once a second."""
        now = time.monotonic()
        if now - self._told < _EVERY_S:
            return
        self._told = now
        self._tell(100.0 * done / max(total, 1), f"{self._what} {done}/{total}{detail}")

    def close(self) -> None:
        """All of it is done, or will not be."""
        if self._artifact is not None:
            self._tell(100.0, self._what)

    def _tell(self, percent: float, text: str) -> None:
        if self._artifact is None:
            made = create_progress_artifact(percent, description=text)
            assert isinstance(made, UUID)  # noqa: S101 - not a coroutine: flows over history are no coroutines
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, percent, description=text)


def leave(what: str, run: str, text: str) -> None:
    """Leave a report as the Markdown artifact of a kind of report and a run; the page shows its text as it is."""
    create_markdown_artifact(fenced(shortened(text)), key=slug(f"{what}-{run}"), description=f"{what} of run {run}")


def fenced(text: str) -> str:
    """Text as a block of Markdown in which nothing can be markup: its fence is longer than any in the text."""
    longest = max((len(found) for found in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def shortened(text: str, longest: int = _LONGEST) -> str:
    """Text without its middle when it is too long for a page."""
    if len(text) <= longest:
        return text
    left_out = len(text) - longest
    return f"{text[: longest // 2]}\n\n[{left_out} characters are left out here]\n\n{text[-(longest // 2) :]}"


def slug(name: str) -> str:
    """A name as the key of an artifact: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
