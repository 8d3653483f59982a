"""Read ledgers again and again while others write them and are killed, until standard input ends.

usage: python onlooker.py DIRECTORY PATTERN PAUSE

Every so many seconds the last one of the roots below the directory that fit the pattern is read: by SQL, whether every
view has just the rows that seals promise, and by an audit of every run. Prints JSON: how many reads there were, and
those that failed.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage.database import query_all
from storage.errors import AzrError
from storage.layout import run_names
from storage.ledger import Ledger
from storage.views import TABLES

PATIENCE = 60.0  # seconds until an onlooker that was asked to end must have ended
SHOWN = 20  # failures that are told
_PROMISED = """
SELECT home, made."table", sum(made.rows)::BIGINT
FROM (SELECT home, position, unnest(outputs) AS made FROM raw.sealed)
WHERE (home, position, made."table") NOT IN (SELECT home, position, what FROM raw.dropped)
GROUP BY ALL HAVING sum(made.rows) > 0
"""
_FOUND = " UNION ALL ".join(
    f"SELECT run, '{table}', count(hash(row)) FROM {table} row GROUP BY run"  # noqa: S608 - hashing reads every column
    for table in TABLES
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What an onlooker saw: reads by their kind, and what was wrong with those that failed."""

    reads: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@contextmanager
def watching(directory: Path, pattern: str, pause: float = 0.0) -> Iterator[Seen]:
    """Have ledgers read beside what is done in the block; what was seen is known when it ends."""
    seen = Seen()
    words = [sys.executable, __file__, str(directory), pattern, str(pause)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as onlooker:
        yield seen
        said, _ = onlooker.communicate("", timeout=PATIENCE)
    assert onlooker.returncode == 0, "the onlooker itself failed"
    found = json.loads(said)
    seen.reads.update(found["reads"])
    seen.failures.extend(found["failures"])


def look(root: Path) -> Iterator[tuple[str, str]]:
    """One read after another: its kind, and what is wrong, or nothing."""
    answers = query_all(root, {"promised": _PROMISED, "found": _FOUND})
    promised, found = (set(answers[name].rows) for name in ("promised", "found"))
    wrong = f"seals promise {promised - found}, views have {found - promised}" if promised != found else ""
    yield "queries", wrong or "; ".join(answers["found"].left_out.values())
    for run in run_names(root):
        yield "audits", "; ".join(f"{run}: {finding}" for finding in Ledger.open(root, run).verify())


def watch(directory: Path, pattern: str, pause: float) -> Seen:
    """Look until standard input ends."""
    reads, failures = Counter[str](), list[str]()
    while not select.select([sys.stdin], [], [], pause)[0]:
        roots = [root for root in sorted(directory.glob(pattern)) if run_names(root)]
        if not roots:
            time.sleep(0.005)
            continue
        try:
            for kind, wrong in look(roots[-1]):
                reads[kind] += 1
                failures += [f"{kind} {reads[kind]}: {wrong}"] if wrong else []
        except (AzrError, OSError) as error:
            failures.append(f"{roots[-1].name}: {type(error).__name__}: {error}")
    return Seen(dict(reads), failures[:SHOWN])


if __name__ == "__main__":
    told = watch(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
    print(json.dumps({"reads": told.reads, "failures": told.failures}))
