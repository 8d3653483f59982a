"""A fork trains on from its parent's checkpoint and tokens, where they lie, and computes what its parent did."""

import dataclasses

from models.engines.scripted import ScriptedEngine
from storage.commit import Disk
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Checkpoint
from storage.seals import Parent
from tasks.workshop import Workshop

POINT = Position(2, Stage.VERIFY)
ONE = {"curriculum": {"modes": ["deduction"]}}
TASK = "<|program|>def f(a):\n    return a + 1<|input|>1"


def test_a_fork_that_changes_nothing_computes_the_same(loop, tmp_path):
    config = loop.config(**ONE)
    script = loop.play(config, {"1-ded-000": TASK, "1-ded-000:0": "<|output|>2"}, otherwise="no")
    with loop.open(tmp_path, config, script) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1)
        loop.iterate(work, 2)
    parent = Ledger.open(tmp_path, loop.run)
    last = parent.before(POINT).last()
    made_from = Parent(run=loop.run, at=str(POINT), before={str(last.position): last.integrity})
    facts = dataclasses.replace(parent.facts, run="fork", parent=made_from)
    ledger = Ledger.create(tmp_path, facts, disk=Disk(durable=False))
    with Workshop(ledger=ledger, config=config, code_version="tests", engine=ScriptedEngine(script)) as work:
        ran = {stage.stage for stage in loop.stages if stage(work, 2)}
    assert ran == {Stage.VERIFY, Stage.UPDATE}
    fork = Ledger.open(tmp_path, "fork")
    assert fork.ledger_hash() == parent.ledger_hash()
    assert fork.verify() == []
    update = Position(2, Stage.UPDATE)
    assert fork.read(Checkpoint, update) == parent.read(Checkpoint, update)
    assert [path.name[:6] for path in (tmp_path / "fork" / "checkpoints").iterdir()] == ["000002"]
