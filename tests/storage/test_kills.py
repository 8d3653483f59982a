"""Real SIGKILLs to real writers, by killer.py, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from storage.commit import POINTS

KILLER = Path(__file__).with_name("killer.py")


def kill(directory, kills, seed):
    done = subprocess.run(
        [sys.executable, str(KILLER), str(directory), str(kills), str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_hundreds_of_kills_lose_nothing(tmp_path):
    counts = kill(tmp_path / "k", 220, 1)
    assert counts["kills"] >= 220
    assert all(counts.get(point, 0) > 0 for point in (*POINTS, "clock")), counts


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_thousands_of_kills_lose_nothing(tmp_path):
    counts = kill(tmp_path / "k", 5000, 2)
    assert counts["kills"] >= 5000
    assert all(counts.get(point, 0) > 50 for point in (*POINTS, "clock")), counts
