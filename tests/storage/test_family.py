"""Forks: a history before its point is the parent's, by reference, to any depth, and what changed in it is found."""

import dataclasses
import json
import shutil

import pytest

from storage.errors import LedgerError
from storage.family import fork_points
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Task, Tokens
from storage.seals import Parent, sealed, to_json

FIRST, SECOND, THIRD = ({stage: Position(number, stage) for stage in Stage} for number in (1, 2, 3))


def fork(samples, root, parent, name, at, **facts):
    """A fork of a run, open for writing."""
    last = Ledger.open(root, parent).before(at).last()
    made_from = Parent(run=parent, at=str(at), before={str(last.position): last.integrity})
    made = dataclasses.replace(samples.facts(name), parent=made_from, **facts)
    return Ledger.create(root, made, disk=samples.quick)


def stages(samples, iteration, start=Stage.PROPOSE, end=Stage.UPDATE):
    whole, words = samples.iteration(iteration), list(Stage)
    wanted = words[words.index(start) : words.index(end) + 1]
    return {at: tables for at, tables in whole.items() if at.stage in wanted}


@pytest.fixture
def family(root, samples):
    """`nano` has iterations 1 and 2; `child` leaves it at 2/solve, `late` the child at 3, `early` at 2/validate."""
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as ledger:
        samples.seal(ledger, samples.iteration(2))
    with fork(samples, root, "nano", "child", SECOND[Stage.SOLVE]) as ledger:
        samples.seal(ledger, stages(samples, 2, Stage.SOLVE))
    with fork(samples, root, "child", "late", THIRD[Stage.PROPOSE]) as ledger:
        samples.seal(ledger, stages(samples, 3, end=Stage.SOLVE))
    fork(samples, root, "child", "early", SECOND[Stage.VALIDATE]).close()
    return root


def test_the_history_before_the_point_is_the_parents_and_the_rest_its_own(family):
    nano, child, late = (Ledger.open(family, run) for run in ("nano", "child", "late"))
    assert [str(seal.position) for seal in child.sealed()] == [str(seal.position) for seal in nano.sealed()]
    assert list(child.made()) == [SECOND[stage] for stage in (Stage.SOLVE, Stage.VERIFY, Stage.UPDATE)]
    assert {child.seal_of(at).run for at in child.made()} == {"child"}
    assert child.seal_of(SECOND[Stage.VALIDATE]) == nano.seal_of(SECOND[Stage.VALIDATE])
    homes = [late.home(position[Stage.VERIFY]).name for position in (FIRST, SECOND, THIRD)]
    assert homes == ["nano", "child", "late"]
    assert late.read(Task, SECOND[Stage.VALIDATE]) == nano.read(Task, SECOND[Stage.VALIDATE])
    assert not (family / "late" / "ledger" / "000002").exists()


def test_a_fork_that_computes_the_same_has_the_same_hash_and_another_chain(family):
    nano, child = Ledger.open(family, "nano"), Ledger.open(family, "child")
    assert child.ledger_hash() == nano.ledger_hash()
    assert child.last().integrity != nano.last().integrity
    assert child.verify() == nano.verify()


def test_a_fork_before_its_parents_own_point_takes_the_grandparents(family, samples):
    early = Ledger.open(family, "early")
    assert [seal.run for seal in early.sealed()] == ["nano"] * 6
    assert early.home(SECOND[Stage.PROPOSE]).name == "nano"
    assert early.home(SECOND[Stage.SOLVE]).name == "early"


def test_what_the_parent_makes_later_is_not_the_forks(family, samples):
    child = Ledger.open(family, "child")
    with Ledger.open(family, "nano", write=True, disk=samples.quick) as nano:
        samples.seal(nano, samples.iteration(3))
    child.refresh()
    assert child.seal_of(THIRD[Stage.PROPOSE]) is None


def test_nothing_is_made_before_the_point(family, samples):
    with (
        Ledger.open(family, "early", write=True, disk=samples.quick) as early,
        pytest.raises(LedgerError, match=r"before its point: there it is run nano.*azr fork --at 2 .*--run nano"),
    ):
        early.begin(SECOND[Stage.PROPOSE], provenance=samples.code)


def edit_seal(root, run, step, stage):
    """Change a word of a sealed partition and make its seal fit again."""
    path = root / run / "ledger" / step / stage / "seal.json"
    seal = next(seal for seal in Ledger.open(root, run).sealed() if str(seal.position) == f"{int(step)}/{stage}")
    path.write_text(to_json(sealed(dataclasses.replace(seal, code_version="forged"))))


def test_a_parent_that_was_changed_afterwards_is_found(family, samples):
    fork(samples, family, "nano", "fresh", THIRD[Stage.PROPOSE]).close()  # nothing of its own names the parent yet
    edit_seal(family, "nano", "000002", "update")
    assert Ledger.open(family, "child").last() is not None  # the child left it before
    with pytest.raises(LedgerError, match="2/update of run nano is not the partition that the fork fresh was made"):
        Ledger.open(family, "fresh")
    edit_seal(family, "child", "000002", "update")
    assert any("2/update of run child is not the partition that" in one.what for one in _audit(family, "late"))


def _audit(root, run):
    from storage.audit import audit

    return audit(root, run)


def test_a_parent_that_is_gone_is_named_with_what_to_put_back(family):
    shutil.move(family / "nano", family / "moved")
    for run in ("child", "late"):
        with pytest.raises(LedgerError, match=r"child is a fork of run nano at 2/solve.*Put the run nano back"):
            Ledger.open(family, run)
    shutil.move(family / "moved", family / "nano")
    assert Ledger.open(family, "late").sealed()


def rewrite(path, **parent):
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"parent": facts["parent"] | parent}))


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        ({"run": "late"}, "which is a fork of it"),
        ({"at": "2/dance"}, "damaged"),
        ({"run": "../x"}, "cannot name a run"),
    ],
)
def test_facts_that_were_edited_are_refused(family, parent, said):
    rewrite(family / "child" / "run.json", **parent)
    with pytest.raises((LedgerError, ValueError), match=said):
        Ledger.open(family, "late")


def test_forks_own_the_points_where_they_and_theirs_left(family):
    assert fork_points(family / "nano") == {
        "child": SECOND[Stage.SOLVE],
        "late": THIRD[Stage.PROPOSE],
        "early": SECOND[Stage.VALIDATE],
    }
    assert fork_points(family / "child") == {"late": THIRD[Stage.PROPOSE], "early": SECOND[Stage.VALIDATE]}
    assert fork_points(family / "late") == {}
    (family / "late" / "run.json").write_text("{")
    with pytest.raises(LedgerError, match=r"late.run\.json is damaged"):
        fork_points(family / "nano")


def test_a_missing_file_of_the_parent_is_missing_in_the_fork(family):
    path = family / "nano" / "ledger" / "000001" / "propose" / f"{Tokens.table}.parquet"
    Ledger.open(family, "late").require_files()
    path.unlink()
    with pytest.raises(LedgerError, match=str(path)):
        Ledger.open(family, "late").require_files()
