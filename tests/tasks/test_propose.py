"""What a proposer is asked, which earlier tasks it is shown, and the rows that its completions become."""

from collections import defaultdict
from collections.abc import Iterator

import pytest

from models.policy import policy_hash, resolve_base
from storage import ids
from storage.buffers import tasks_of, valid_ids
from storage.ids import Mode, Position, Role, Stage
from storage.ledger import Ledger
from storage.records import Rollout, TaskParent, Tokens
from storage.seeds import seed_of
from tasks.reasoning.checks import rollout_key
from tasks.reasoning.modes import MODES

SEED = 11
IDENTITY = "def f(a):\n    return a"


def plus(number: int) -> str:
    return f"def f(a):\n    return a + {number}"


def task(number: int) -> str:
    return f"<|program|>{plus(number)}<|input|>{number}"


LINES = {f"0.1-{mode}-00{slot}": task(slot) for mode in ("ded", "abd") for slot in range(3)} | {
    f"0.2-ind-00{slot}": f"<|input|>1<|input|>2<|input|>3<|message|>hint {slot}" for slot in range(3)
}
FIRST, SECOND = (Position(number, Stage.PROPOSE) for number in (1, 2))


@pytest.fixture(scope="module")
def ledger(loop, tmp_path_factory) -> Iterator[Ledger]:
    """Two iterations; in the first, slot 0 of each mode is a new task and the others are no tasks."""
    config = loop.config(
        seed=SEED,
        curriculum={"proposals": 12, "references_min": 1, "references_max": 3, "probes": 2, "buffer_tasks": 3},
        bootstrap={"wanted": 3, "proposals": 3},
        sampling={"temperature": 0.75, "top_p": 0.5},
    )
    lines = LINES | {"1-ded-000": task(10), "1-abd-000": task(10)}
    lines |= {"1-ind-000": "<|input|>4<|input|>5<|input|>6<|message|>new", "1-ded-001": "<|think|>" + "é" * 600}
    script = loop.play(config, lines, otherwise="no")
    with loop.open(tmp_path_factory.mktemp("runs"), config, script) as work:
        assert loop.bootstrap(work) == 2
        loop.iterate(work, 1)
        loop.iterate(work, 2, until=Stage.PROPOSE)
        yield work.ledger


def parents(ledger: Ledger, at: Position) -> dict[str, list[str]]:
    """For each proposal the ids of the tasks that it was shown, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in sorted(ledger.read(TaskParent, at), key=lambda row: (row.task_id, row.position)):
        assert row.position == len(found[ids.text(row.task_id)])
        assert row.parent_iteration == ids.unpack(row.parent_id).iteration
        found[ids.text(row.task_id)].append(ids.text(row.parent_id))
    return found


def by_name(ledger, before):
    """Every valid task before a position by its written id."""
    buffers = valid_ids(ledger, before)
    return {ids.text(one): task for some in buffers.values() for one, task in tasks_of(ledger, some).items()}


def test_every_slot_of_every_mode_is_asked_once(ledger):
    rows = ledger.read(Rollout, FIRST)
    names = [f"1-{mode}-{slot:03d}" for mode in ("ded", "abd", "ind") for slot in range(12)]
    assert [ids.text(row.rollout_id) for row in rows] == names
    for row in rows:
        place = ids.unpack(row.rollout_id)
        assert (row.task_id, row.mode, row.slot, row.sample) == (row.rollout_id, place.mode, place.slot, 0)
        assert (row.role, row.source, row.iteration, row.round) == (Role.PROPOSER, "proposal", 1, 0)


def test_bootstrap_rounds_ask_only_for_what_is_lacking(ledger):
    first, second = (ledger.read(Rollout, Position(0, Stage.PROPOSE, round)) for round in (1, 2))
    assert [ids.text(row.rollout_id) for row in first] == [*list(LINES)[:6]]
    assert [ids.text(row.rollout_id) for row in second] == [*list(LINES)[6:]]
    assert {row.round for row in second} == {2}


@pytest.mark.parametrize("at", [Position(0, Stage.PROPOSE, 1), Position(0, Stage.PROPOSE, 2), FIRST, SECOND])
def test_parents_are_valid_and_earlier_and_of_the_modes_that_feed_this_one(ledger, at):
    before = by_name(ledger, at)
    shown = parents(ledger, at)
    for name, given in shown.items():
        mode = ids.unpack(ids.parse(name)).mode
        assert {before[one].mode for one in given} <= set(MODES[mode].sources)
        assert len(set(given)) == len(given) <= (1 if mode is Mode.INDUCTION else 3)
    assert set(shown) == {ids.text(row.rollout_id) for row in ledger.read(Rollout, at)}


def test_between_the_fewest_and_the_most_references_are_shown(ledger):
    shown = parents(ledger, SECOND)
    counts = {len(given) for name, given in shown.items() if "-ind-" not in name}
    assert counts == {1, 2, 3}
    assert {len(given) for name, given in shown.items() if "-ind-" in name} == {1}


def test_the_buffer_of_an_iteration_holds_the_iteration_before(ledger):
    every = {parent for given in parents(ledger, SECOND).values() for parent in given}
    assert {"1-ded-000", "1-abd-000"} <= every
    assert "1-ind-000" not in every, "no mode is shown a task of induction"


def test_a_prompt_shows_its_parents_in_their_order(ledger):
    tasks = by_name(ledger, SECOND)
    shown = parents(ledger, SECOND)
    for row in ledger.read(Rollout, SECOND):
        given = [tasks[name] for name in shown[ids.text(row.rollout_id)]]
        if row.mode is Mode.INDUCTION:
            references = f"<|program|>{given[0].program}"
        else:
            references = "".join(
                f"<|program|>{one.program}<|input|>{one.inputs[0]}<|output|>{one.outputs[0]}" for one in given
            )
        assert row.prompt == f"<|propose-{row.mode}|>{references}<|answer|>"


def test_the_program_of_a_puzzle_is_the_one_that_was_shown(ledger):
    tasks = by_name(ledger, SECOND)
    shown = parents(ledger, FIRST)
    assert tasks["1-ind-000"].program == tasks[shown["1-ind-000"][0]].program


def test_a_rollout_says_who_wrote_it_from_which_seed_and_how_it_was_sampled(loop, ledger):
    row = loop.named(ledger.read(Rollout, FIRST), "1-abd-007")
    assert row.seed == seed_of(SEED, 1, 0, "propose", "abduction", 7, 0)
    assert (row.temperature, row.top_p, row.max_tokens) == (0.75, 0.5, 300)
    assert (row.policy, row.policy_iteration) == (policy_hash(resolve_base("nano")), 0)
    assert (row.completion, row.finish_reason, row.completion_tokens) == ("no", "stop", 3)
    assert row.prompt_tokens == len(row.prompt.encode())
    assert row.content_key == rollout_key(row.prompt, "no")
    later = loop.named(ledger.read(Rollout, SECOND), "2-abd-007")
    assert (later.policy_iteration, later.policy == row.policy) == (1, False)
    assert later.seed != row.seed


def test_a_completion_that_is_cut_keeps_the_tokens_it_has(loop, ledger):
    row = loop.named(ledger.read(Rollout, FIRST), "1-ded-001")
    assert (row.finish_reason, row.completion_tokens, row.max_tokens) == ("length", 300, 300)
    assert row.completion == "<|think|>" + "é" * 145 + "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("at", [FIRST, FIRST._replace(stage=Stage.SOLVE)])
def test_tokens_lie_apart_one_row_for_each_rollout(ledger, at):
    rollouts, tokens = ledger.read(Rollout, at), ledger.read(Tokens, at)
    assert [row.rollout_id for row in rollouts] == [row.rollout_id for row in tokens]
    for rollout, row in zip(rollouts, tokens, strict=True):
        assert (len(row.prompt_ids), len(row.completion_ids)) == (rollout.prompt_tokens, rollout.completion_tokens)
        assert len(row.logprobs) == len(row.completion_ids)
        assert max(row.logprobs) <= 0
        if rollout.finish_reason == "stop":
            assert bytes(row.completion_ids[:-1]).decode() == rollout.completion


def test_earlier_tasks_are_solved_again_without_those_of_this_iteration(ledger):
    rows = [row for row in ledger.read(Rollout, FIRST._replace(stage=Stage.SOLVE)) if row.source == "buffer"]
    drawn = defaultdict(list)
    for row in rows:
        drawn[row.mode].append(row.slot)
        assert ids.unpack(row.task_id).iteration == 0
        assert ids.unpack(row.task_id).mode is row.mode
    assert drawn == {mode: [12, 13, 14] for mode in Mode if mode is not Mode.ERROR}
    assert len({row.task_id for row in rows}) == 9


def test_another_seed_shows_other_tasks_and_solves_others_again(loop, tmp_path):
    """The tasks are the same for both seeds: what differs is what was drawn among them."""

    def drawn(name: str, seed: int) -> tuple[dict[str, list[str]], list[int]]:
        config = loop.config(
            seed=seed, curriculum={"proposals": 6, "buffer_tasks": 2}, bootstrap={"wanted": 3, "proposals": 3}
        )
        with loop.open(tmp_path / name, config, loop.play(config, LINES, otherwise="no")) as work:
            loop.bootstrap(work)
            loop.iterate(work, 1, until=Stage.SOLVE)
            again = work.ledger.read(Rollout, FIRST._replace(stage=Stage.SOLVE))
            return parents(work.ledger, FIRST), [row.task_id for row in again]

    once, same, other = drawn("once", 1), drawn("same", 1), drawn("other", 2)
    assert once == same
    assert once[0] != other[0]
    assert once[1] != other[1]
