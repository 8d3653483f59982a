"""What a flow over history leaves on its page of the UI: how far it is, and its report as text."""

from __future__ import annotations

import time
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from flows.markdown import fenced, slug

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
    create_markdown_artifact(fenced(abridged(text)), key=slug(run, what), description=f"{what} of run {run}")


def abridged(text: str, longest: int = _LONGEST) -> str:
    """Text without its middle when it is too long for a page."""
    if len(text) <= longest:
        return text
    left_out = len(text) - longest
    return f"{text[: longest // 2]}\n\n[{left_out} characters are left out here]\n\n{text[-(longest // 2) :]}"
