"""The index of a run saves opening seals, and decides nothing."""

import json
import os
import shutil

import pytest

from storage import sealed
from storage.database import query
from storage.errors import LedgerError
from storage.ids import Position, Stage
from storage.layout import INDEX_FILE, partition_of
from storage.ledger import Ledger

SEALED = "SELECT iteration, stage, rows, bytes, content, started, finished FROM stages"


def stages(root):
    return query(root, SEALED).rows


@pytest.fixture
def opened(monkeypatch):
    """The positions whose seals were opened by a query."""
    found = []
    read = sealed.read_seal
    monkeypatch.setattr(sealed, "read_seal", lambda home, position: found.append(position) or read(home, position))
    return found


def test_with_an_index_no_seal_is_opened_and_the_answer_is_the_same(root, opened):
    with_index = stages(root)
    assert opened == []
    (root / "nano" / INDEX_FILE).unlink()
    assert stages(root) == with_index
    assert len(opened) == len(with_index) == 5


def test_a_writer_makes_the_index_whole(root, samples):
    index = root / "nano" / INDEX_FILE
    whole = {line for line in index.read_text().splitlines() if line}
    for damage in (b"", b"torn {", index.read_bytes()[:200], b"\xff\xfe\n" + index.read_bytes(), b"[1]\n{}\nnull\n"):
        index.write_bytes(damage)
        Ledger.open(root, "nano", write=True, disk=samples.quick).close()
        assert set(index.read_text().splitlines()) == whole


@pytest.mark.parametrize("damage", [b"", b"\xff\n[1]\n{}\nnull\n3\n", b'{"position": "1/solve"}\n', b'{"position": 7}'])
def test_a_line_that_says_nothing_is_skipped(root, opened, damage):
    with_index = stages(root)
    index = root / "nano" / INDEX_FILE
    index.write_bytes(damage + b"\n" + b"\n".join(line for line in index.read_bytes().splitlines()[2:]))
    assert stages(root) == with_index
    assert len(opened) <= 5


def test_a_line_about_another_seal_does_not_count(root, opened):
    """An edited seal, and one copied without its time: both are read, and checked, from their own file."""
    before = stages(root)
    path = partition_of(root / "nano", Position(1, Stage.SOLVE)) / "seal.json"
    os.utime(path, ns=(1, 1))
    assert stages(root) == before
    assert opened == [Position(1, Stage.SOLVE)]
    seal = json.loads(path.read_text())
    path.write_text(json.dumps(seal | {"attempt": 2}))
    with pytest.raises(LedgerError, match="was changed after it was written"):
        stages(root)


def test_a_partition_that_a_later_one_was_made_from_is_missed(root, samples):
    shutil.move(partition_of(root / "nano", Position(1, Stage.SOLVE)), root / "elsewhere")
    with pytest.raises(LedgerError, match="The seal of 1/solve of run nano is missing, but 1/verify was made from it"):
        stages(root)
    shutil.move(root / "elsewhere", partition_of(root / "nano", Position(1, Stage.SOLVE)))
    shutil.move(partition_of(root / "nano", Position(1, Stage.UPDATE)), root / "elsewhere")
    assert [row[1] for row in stages(root)] == ["propose", "validate", "solve", "verify"]  # the last one may go


def test_a_disk_that_refuses_the_index_loses_nothing(root, samples, opened):
    (root / "nano" / INDEX_FILE).unlink()
    (root / "nano" / INDEX_FILE).mkdir()
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as ledger:
        samples.seal(ledger, samples.iteration(2))
    assert len(stages(root)) == 10
