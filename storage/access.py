"""Who may write where: a run's directory is locked by its one writer, and other people's directories are left alone."""

from __future__ import annotations

from pathlib import Path

from storage import layout
from storage.errors import LedgerError
from storage.lock import WriterLock


def locked(directory: Path) -> WriterLock:
    """The writer's lock of a run, whose directory is made when it is not there; raises LedgerError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return WriterLock(directory)
    except LedgerError:
        raise
    except OSError as error:
        raise unwritable(directory, error) from error


def unwritable(directory: Path, error: OSError) -> LedgerError:
    """What is said when a run's directory cannot be written."""
    another = layout.command("train", root=Path("DIR"))
    return LedgerError(
        f"Run {directory.name} cannot be written below {directory.parent}: {error}. Nothing was written. "
        f"Free space or make it writable, then run the same command again; or choose another root: {another}"
    )


def refuse_foreign(directory: Path) -> None:
    """A directory that holds other things is not made a run."""
    if (directory / layout.RUN_FILE).exists() or not directory.exists():
        return
    # What a run that was killed while it began leaves behind.
    left = {layout.LOCK_FILE, layout.LOG_FILE, f"{layout.RUN_FILE}.partial"}
    if not directory.is_dir() or {entry.name for entry in directory.iterdir()} - left:
        raise LedgerError(
            f"{directory} exists and is not a run. Nothing was written. Choose another name: "
            f"{layout.command('train', root=directory.parent, run='NAME')}"
        )
