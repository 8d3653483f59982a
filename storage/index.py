"""The index of a run: what readers want of every seal, in one file, since opening thousands of seals takes seconds.

One JSON line per sealed partition, appended by the writer after the rename. It decides nothing: a line counts only
while its seal.json has the size and the time of change that the line names, any other seal is read from its own file,
and the index may be removed at any time. A writer that opens the run makes it whole.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from storage.layout import INDEX_FILE, SEAL_FILE, partition_of
from storage.seals import Seal


def append(run_directory: Path, seal: Seal) -> None:
    """Note a partition that was just sealed; a disk that refuses loses nothing, since the seal is there."""
    with contextlib.suppress(OSError), (run_directory / INDEX_FILE).open("ab") as file:
        file.write(f"\n{_line(run_directory, seal)}\n".encode())  # begins on a fresh line, whatever was torn before


def complete(run_directory: Path, seals: Iterable[Seal]) -> None:
    """Make the index say exactly these seals; the caller holds the run's lock."""
    path = run_directory / INDEX_FILE
    with contextlib.suppress(OSError):
        wanted = [_line(run_directory, seal) for seal in seals]
        if Counter(wanted) != Counter(_lines(path)):
            partial = path.with_suffix(".partial")
            partial.write_text("".join(f"{line}\n" for line in wanted))
            partial.replace(path)


def entry(run_directory: Path, seal: Seal) -> dict[str, object]:
    """What the index says of a seal; raises OSError when its file is not there."""
    found = (partition_of(run_directory, seal.position) / SEAL_FILE).stat()
    tables = seal.outputs.items()
    return {
        "position": str(seal.position),
        "iteration": seal.iteration,
        "round": seal.round,
        "stage": seal.stage.value,
        "attempt": seal.attempt,
        "schema_version": seal.schema_version,
        "content": seal.content,
        "code_version": seal.code_version,
        "flow_run_id": seal.flow_run_id,
        "started_us": seal.timings.started_us,
        "finished_us": seal.timings.finished_us,
        "cpu_us": seal.timings.cpu_us,
        "seal_bytes": found.st_size,
        "seal_changed_ns": found.st_mtime_ns,
        "named": seal.named(),
        "outputs": [{"table": name, "file": o.file, "rows": o.rows, "bytes": o.bytes} for name, o in tables],
    }


def _line(run_directory: Path, seal: Seal) -> str:
    return json.dumps(entry(run_directory, seal), separators=(",", ":"))


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(errors="replace").splitlines() if line]
    except FileNotFoundError:
        return []
