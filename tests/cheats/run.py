"""Tries a verifier on the cheating answers of cheats.jsonl; README.md says how to connect one.

    python -m tests.cheats.run --verifier "COMMAND" [--fault FAULT] [--seconds S] [--json]

The verifier reads one question per line and writes one score per line, 0 to 1. Exit code 0: no cheat was paid, every
honest answer was paid in full, and the verifier survived all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

DATA = Path(__file__).with_name("cheats.jsonl")


class Outcome(StrEnum):
    """What a verifier made of one answer."""

    NOTHING = "nothing"
    PART = "part"
    ALL = "all"
    DOWN = "down"  # no score in time, or not one between 0 and 1, or the verifier ended


@dataclass(frozen=True)
class Tried:
    """One task with what the verifier paid for its cheating and for its honest answer."""

    id: str
    mode: str
    fault: str
    cheat: Outcome
    honest: Outcome

    @property
    def good(self) -> bool:
        """Whether the verifier did right by both."""
        return self.cheat is Outcome.NOTHING and self.honest is Outcome.ALL


class Verifier:
    """Owns the verifier's process, which is started anew whenever it has gone down."""

    def __init__(self, command: str, seconds: float) -> None:
        self._words = shlex.split(command)
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, object]) -> Outcome:
        """One question, one outcome."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            found = outcome(self._line())
        except OSError:
            found = Outcome.DOWN
        if found is Outcome.DOWN:
            self.close()
        return found

    def _line(self) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            data = b""
            while not data.endswith(b"\n") and selector.select(self._seconds):
                part = os.read(self._process.stdout.fileno(), 4096)
                if not part:
                    break
                data += part
        return data

    def close(self) -> None:
        """Ends the process and what it started."""
        if self._process is not None:
            with self._process as process, suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            self._process = None


def outcome(line: bytes) -> Outcome:
    """What one line of a verifier means."""
    try:
        score = float(line)
    except ValueError:
        return Outcome.DOWN
    if not 0 <= score <= 1:
        return Outcome.DOWN
    return {0.0: Outcome.NOTHING, 1.0: Outcome.ALL}.get(score, Outcome.PART)


def tried(verifier: Verifier, row: dict) -> Tried:
    """A task's cheating answer, then its honest one."""
    task = {name: row[name] for name in ("mode", "program", "inputs", "outputs", "visible")}
    cheat, honest = (verifier.ask({**task, "answer": row[kind]}) for kind in ("answer", "honest"))
    return Tried(row["id"], row["mode"], row["fault"], cheat, honest)


def table(found: Iterable[Tried]) -> str:
    """One line per fault: how many cheats, how many were paid or brought the verifier down, and the honest answers."""
    lines = [f"{'fault':<22} {'cheats':>6} {'paid':>5} {'down':>5} {'honest refused':>15}"]
    counts: dict[str, Counter[str]] = {}
    for one in found:
        for fault in (one.fault, "all"):
            count = counts.setdefault(fault, Counter())
            count["cheats"] += 1
            count["paid"] += one.cheat in (Outcome.PART, Outcome.ALL)
            count["down"] += one.cheat is Outcome.DOWN
            count["refused"] += one.honest is not Outcome.ALL
    for fault, count in sorted(counts.items(), key=lambda item: (item[0] == "all", item[0])):
        lines.append(f"{fault:<22} {count['cheats']:>6} {count['paid']:>5} {count['down']:>5} {count['refused']:>15}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verifier", required=True, help="command that reads questions and writes scores")
    parser.add_argument("--fault", help="only this class of fault")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for one answer")
    parser.add_argument("--json", action="store_true", help="one line of JSON per task instead of the table")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    verifier = Verifier(arguments.verifier, arguments.seconds)
    try:
        found = [tried(verifier, row) for row in rows if arguments.fault in (None, row["fault"])]
    finally:
        verifier.close()
    bad = [one for one in found if not one.good]
    if arguments.json:
        print("\n".join(json.dumps(asdict(one)) for one in found))
    else:
        print(table(found))
        print("\n".join(f"{one.id}: cheat {one.cheat}, honest {one.honest}" for one in bad))
    return 1 if bad or not found else 0


if __name__ == "__main__":
    sys.exit(main())
