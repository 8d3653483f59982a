"""Real SIGKILLs to real writers, by killer.py, in processes of their own."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from storage import retention
from storage.commit import POINTS

KILLER = Path(__file__).with_name("killer.py")
BESIDE = [f"{when} {name}" for name in ("append", "complete", "_sync") for when in ("before", "after")]
EVERY = (*POINTS, *retention.POINTS, *BESIDE, "clock")


def killing(directory, kills, seed):
    words = [sys.executable, str(KILLER), str(directory), str(kills), str(seed)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def counted(process):
    said, error = process.communicate()
    print(said)
    assert process.returncode == 0, error
    found = json.loads(said.splitlines()[-1])
    assert found.pop("failures") == []
    assert all(number > 0 for number in found.pop("onlooker").values())
    return Counter(found)


@pytest.mark.timeout(600)
def test_many_kills_lose_nothing_and_readers_never_fail(tmp_path):
    counts = counted(killing(tmp_path / "k", 60, 1))
    assert counts["kills"] >= 60
    assert counts["kills beside a fork"] > 5
    assert sum(counts[point] > 0 for point in EVERY) > len(EVERY) // 2, counts


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thousands_of_kills_lose_nothing(tmp_path):
    processes = [killing(tmp_path / f"k{seed}", 1250, seed) for seed in (2, 3)]
    counts = Counter()
    for process in processes:
        counts += counted(process)
    assert counts["kills"] >= 2500
    assert all(counts[point] > 20 for point in EVERY), counts
