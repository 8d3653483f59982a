"""Every verdict about an answer and every rung of both ladders, against values worked out by hand."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from storage import ids
from storage.ids import Position, Role, Stage
from storage.ledger import Ledger
from storage.records import Answer, Reward, Rollout, Task
from tasks.reasoning.checks import answer_key, reward_key
from tasks.reasoning.rewards import Rung
from tasks.sandbox.judge import Verdict

VERIFIED = Position(1, Stage.VERIFY)

# Five different numbers, so that no rung can be taken for another.
REWARDS = {"format": -1.0, "invalid": -0.75, "duplicate": -0.875, "unlearnable": -0.5, "wrong": -0.25}
SECTIONS = {"curriculum": {"proposals": 4, "inputs": 3, "visible": 1, "probes": 5}, "rewards": REWARDS}
SECTIONS |= {"sandbox": {"allow_imports": ["os", "ctypes"]}}

IDENTITY = "def f(a):\n    return a"
PLUS = "def f(a):\n    return a + 1"
ABSOLUTE = "def f(a):\n    while a == 7:\n        pass\n    return abs(a)"
SEGFAULT = "import ctypes\ndef f(a):\n    return ctypes.string_at(0)"
FORGED = "import os\ndef f(a):\n    os.write(3, b'12345678')\n    os._exit(0)"


def task(program: str, arguments: str) -> str:
    return f"<|program|>{program}<|input|>{arguments}"


def puzzle(message: str, *arguments: str) -> str:
    return "".join(f"<|input|>{one}" for one in arguments) + f"<|message|>{message}"


def returning(expression: str) -> str:
    return f"<|program|>def f(a):\n    return {expression}"


class Said(NamedTuple):
    """An answer, and what must be stored about it."""

    text: str
    verdict: str
    total: float
    passed: int = 0
    checks: int = 1
    reason: str | None = None
    format: str = "ok"


PROPOSALS = {
    "0.1-ind-000": puzzle("seed", "1", "2", "3"),
    "1-ded-000": task(PLUS, "1"),  # 1 of 5 probes
    "1-ded-001": task(PLUS, "2"),  # all of them
    "1-ded-002": "no task",
    "1-ded-003": task(IDENTITY, "'pqr'"),  # a duplicate of 0.0-ded-000
    "1-abd-000": task(ABSOLUTE, "3"),  # 2 of 5 probes
    "1-abd-001": task("def f(a):\n    return [a]", "1"),  # none of them
    "1-abd-002": task(ABSOLUTE, "'x'"),
    "1-abd-003": task(ABSOLUTE, '"x"'),  # the same as the one before, which was none
    "1-ind-000": puzzle("first", "1", "2", "3"),  # 1 of 5 probes
    "1-ind-001": puzzle("second", "4", "5", "6"),  # none of them
    "1-ind-002": puzzle("third", "4", "5", "4"),
    "1-ind-003": "<|message|>no inputs",
}

ANSWERS = {
    "1-ded-000:0": Said("<|output|>2", "correct", 1.0, 1),
    "1-ded-000:1": Said("<|output|>3", "wrong", -0.25, reason="another output"),
    "1-ded-000:2": Said("<|output|>2.0", "wrong", -0.25, reason="another output"),
    "1-ded-000:3": Said("<|output|>1 + 1", "unparsed", -0.25),
    "1-ded-000:4": Said("2", "unparsed", -1.0, 0, 0, "text before the first marker: '2'", "stray_text"),
    **{f"1-ded-001:{sample}": Said("<|think|>2 + 1<|output|> 0x3 ", "correct", 1.0, 1) for sample in range(5)},
    "1-abd-000:0": Said("<|input|>3", "correct", 1.0, 1),
    "1-abd-000:1": Said("<|input|>-3", "correct", 1.0, 1),
    "1-abd-000:2": Said("<|input|>4", "wrong", -0.25, reason="0 of 1 outputs as they should be"),
    "1-abd-000:3": Said("<|input|>7", "timeout", -0.25, reason="over its CPU time of 0.6 s"),
    "1-abd-000:4": Said("<|input|>", "unparsed", -1.0, 0, 0, "empty block: input", "empty"),
    "1-abd-001:0": Said("<|input|>1, 2", "error", -0.25,
                        reason="TypeError: f() takes 1 positional argument but 2 were given"),
    "1-abd-001:1": Said("<|input|>f(1)", "unparsed", -0.25),
    "1-abd-001:2": Said("<|output|>1", "unparsed", -1.0, 0, 0, "wanted input; given output", "missing_block"),
    "1-abd-001:3": Said("<|input|>1<|output|>1", "unparsed", -1.0, 0, 0, "wanted input; given input, output",
                        "wrong_order"),
    "1-abd-001:4": Said("<|input|>" + "1" * 300, "unparsed", -1.0, 0, 0,
                        "the completion did not end within its token limit (300 characters)", "truncated"),
    "1-ind-000:0": Said(returning("a"), "correct", 1.0, 2, 2),
    "1-ind-000:1": Said(returning("2"), "wrong", -0.25, 1, 2, "1 of 2 outputs as they should be"),
    "1-ind-000:2": Said(returning("a if a < 3 else 1 / 0"), "error", -0.25, 1, 2,
                        "input 2: ZeroDivisionError: division by zero"),
    "1-ind-000:3": Said(returning("[a"), "error", -0.25, 0, 2),
    "1-ind-000:4": Said("<|program|>import time\ndef f(a):\n    return a", "rejected", -0.25, 0, 2,
                        "the program uses time, which is banned"),
    "1-ind-001:0": Said(returning("bytes(10 ** 12)"), "memory", -0.25, 0, 2, "input 1: MemoryError"),
    "1-ind-001:1": Said("<|program|>import os\ndef f(a):\n    return os.fork()", "rejected", -0.25, 0, 2,
                        "a forbidden system call"),
    "1-ind-001:2": Said(f"<|program|>{SEGFAULT}", "crash", -0.25, 0, 2, "killed by SIGSEGV"),
    "1-ind-001:3": Said(f"<|program|>{FORGED}", "protocol", -0.25, 0, 2, "8 bytes that are not one frame"),
    "1-ind-001:4": Said("<|program|>while True:\n    pass", "timeout", -0.25, 0, 2, "over its CPU time of 0.6 s"),
    # Earlier tasks again, in the slots after the proposals: there is one of each mode
    "1-ded-004:0": Said("<|output|>'pqr'", "correct", 1.0, 1),
    "1-abd-004:0": Said("<|input|>'rqp'", "wrong", -0.25, reason="0 of 1 outputs as they should be"),
    "1-ind-004:0": Said(returning("a"), "correct", 1.0, 2, 2),
}  # fmt: skip


class Earned(NamedTuple):
    """What a proposer gets: total, rung, solve rate, probes and learnability."""

    total: float
    rung: str
    solve_rate: float | None = None
    probes: int | None = None
    learnability: float | None = None


PROPOSED = {
    "1-ded-000": Earned(0.8, "learnable", 0.2, 5, 0.8),
    "1-ded-001": Earned(-0.5, "unlearnable", 1.0, 5, 0.0),
    "1-ded-002": Earned(-1.0, "format"),
    "1-ded-003": Earned(-0.875, "invalid"),
    "1-abd-000": Earned(0.6, "learnable", 0.4, 5, 0.6),
    "1-abd-001": Earned(-0.5, "unlearnable", 0.0, 5, 0.0),
    "1-abd-002": Earned(-0.75, "invalid"),
    "1-abd-003": Earned(-0.75, "invalid"),
    "1-ind-000": Earned(0.8, "learnable", 0.2, 5, 0.8),
    "1-ind-001": Earned(-0.5, "unlearnable", 0.0, 5, 0.0),
    "1-ind-002": Earned(-0.75, "invalid"),
    "1-ind-003": Earned(-1.0, "format"),
}

RULE = (
    "ladder format=-1 invalid=-0.75 duplicate=-0.875 unlearnable=-0.5 wrong=-0.25 learnability=one_minus "
    "induction=binary"
)


def play(loop, root, config):
    lines = PROPOSALS | {name: said.text for name, said in ANSWERS.items()}
    work = loop.open(root, config, loop.play(config, lines))
    loop.bootstrap(work)
    loop.iterate(work, 1, until=Stage.VERIFY)
    return work


@pytest.fixture(scope="module")
def ledger(loop, tmp_path_factory) -> Iterator[Ledger]:
    with play(loop, tmp_path_factory.mktemp("runs"), loop.config(**SECTIONS)) as work:
        yield work.ledger


@pytest.fixture(scope="module")
def rewards(ledger) -> list[Reward]:
    return ledger.read(Reward, VERIFIED)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_verdict_on_an_answer(loop, ledger, name):
    said, row = ANSWERS[name], loop.named(ledger.read(Answer, VERIFIED), name)
    assert (row.verdict, row.format) == (said.verdict, said.format)
    assert (row.passed, row.checks) == (said.passed, said.checks)
    assert (row.reason is None) is (said.verdict == "correct")
    assert said.reason in (None, row.reason)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_reward_of_a_solver(loop, rewards, name):
    said, row = ANSWERS[name], loop.named(rewards, name)
    rung = {1.0: "correct", -0.25: "wrong", -1.0: "format"}[said.total]
    assert (row.role, row.total, row.rung, row.rule) == (Role.SOLVER, said.total, rung, RULE)
    assert (row.accuracy, row.solve_rate, row.probes, row.learnability) == (float(said.total == 1), None, None, None)


@pytest.mark.parametrize("name", PROPOSED)
def test_the_reward_of_a_proposer(loop, rewards, name):
    row = loop.named(rewards, name)
    assert row.role is Role.PROPOSER
    assert Earned(row.total, row.rung, row.solve_rate, row.probes, row.learnability) == PROPOSED[name]
    assert (row.accuracy, row.task_id, row.rule) == (None, row.rollout_id, RULE)


def test_the_cases_above_are_all_there_are(ledger, rewards):
    """One word is left out: an answer is run in one interpreter, so its program is never seen to waver."""
    answers = ledger.read(Answer, VERIFIED)
    assert {ids.text(row.rollout_id) for row in answers} == set(ANSWERS)
    assert {ids.text(row.rollout_id) for row in rewards} == {*ANSWERS, *PROPOSED}
    assert {row.verdict for row in answers} == {*Verdict} - {Verdict.NONDETERMINISTIC}
    assert {row.rung for row in rewards} == {*Rung}


def test_an_answer_is_kept_as_it_was_read(loop, ledger):
    answers = ledger.read(Answer, VERIFIED)
    tasks = ledger.read(Task, VERIFIED._replace(stage=Stage.VALIDATE))
    thought, unparsed, malformed = (loop.named(answers, f"1-ded-00{name}") for name in ("1:0", "0:3", "0:4"))
    assert (thought.answer, unparsed.answer, malformed.answer) == ("0x3", "1 + 1", None)
    key = loop.named(tasks, "1-ded-001").content_key
    assert thought.content_key == answer_key(key, "0x3")
    assert malformed.content_key is None
    assert loop.named(answers, "1-abd-000:2").cpu_us > 0
    assert thought.cpu_us == 0, "deduction is decided without running anything"


def test_the_key_of_a_reward_covers_its_rule_and_parts(loop, rewards):
    row = loop.named(rewards, "1-ded-000")
    parts = {"rung": "learnable", "accuracy": None, "solve_rate": 0.2, "probes": 5, "learnability": 0.8}
    assert row.content_key == reward_key(RULE, 0.8, parts)
    same = [loop.named(rewards, name).content_key for name in ("1-abd-001", "1-ind-001")]
    assert same[0] == same[1] != row.content_key


def test_probes_stand_in_their_tasks_slots_and_earlier_tasks_after_the_proposals(ledger):
    rollouts = ledger.read(Rollout, VERIFIED._replace(stage=Stage.SOLVE))
    new = [row for row in rollouts if row.source == "new"]
    again = [row for row in rollouts if row.source == "buffer"]
    assert len(new) == 6 * 5
    for row in new:
        place = ids.unpack(row.rollout_id)
        assert row.task_id == ids.pack(place._replace(sample=None))
        assert (place.slot, place.sample, place.slot < 4) == (row.slot, row.sample, True)
    assert {(ids.text(row.rollout_id), ids.text(row.task_id), row.slot) for row in again} == {
        ("1-ded-004:0", "0.0-ded-000", 4),
        ("1-abd-004:0", "0.0-abd-000", 4),
        ("1-ind-004:0", "0.1-ind-000", 4),
    }
    assert len({row.seed for row in rollouts}) == len(rollouts)


def test_solvers_are_shown_no_gold(loop, ledger):
    rollouts = ledger.read(Rollout, VERIFIED._replace(stage=Stage.SOLVE))
    shown = {name: loop.named(rollouts, name).prompt for name in ("1-ded-000:0", "1-abd-000:0", "1-ind-001:4")}
    assert shown == {
        "1-ded-000:0": f"<|solve-deduction|><|program|>{PLUS}<|input|>1<|answer|>",
        "1-abd-000:0": f"<|solve-abduction|><|program|>{ABSOLUTE}<|output|>3<|answer|>",
        "1-ind-001:4": "<|solve-induction|><|input|>4<|output|>4<|message|>second<|answer|>",
    }


def test_shares_of_the_hidden_pairs_count_where_the_config_says_so(loop, tmp_path):
    config = loop.config(**SECTIONS | {"rewards": REWARDS | {"induction": "share", "learnability": "variance"}})
    with play(loop, tmp_path, config) as work:
        rewards = work.ledger.read(Reward, VERIFIED)
    earned = {name: (row.total, row.rung) for name in ANSWERS if (row := loop.named(rewards, name))}
    half = {"1-ind-000:1": (0.5, "correct"), "1-ind-000:2": (0.5, "correct")}
    rungs = {1.0: "correct", -0.25: "wrong", -1.0: "format"}
    assert earned == {name: (said.total, rungs[said.total]) for name, said in ANSWERS.items()} | half
    puzzles = loop.named(rewards, "1-ind-000")
    assert (puzzles.solve_rate, puzzles.total) == (0.2, pytest.approx(0.16)), "half right is not solved"


COIN = "<|program|>def f(a):\n    return 1 if a == 5 else hash('a')<|input|>5"


def test_a_task_whose_program_tosses_coins_for_other_inputs_is_paid_as_an_invalid_one(loop, tmp_path):
    config = loop.config(curriculum={"modes": ["deduction", "abduction"]})
    with loop.open(tmp_path, config, loop.play(config, {"1-abd-000": COIN}, otherwise="<|input|>6")) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1, until=Stage.VERIFY)
        at = Position(1, Stage.VERIFY)
        answers = [row for row in work.ledger.read(Answer, at) if row.task_id == ids.parse("1-abd-000")]
        rewards = {row.rollout_id: row for row in work.ledger.read(Reward, at)}
    assert {row.verdict for row in answers} == {"nondeterministic"}
    paid = rewards[ids.parse("1-abd-000")]
    assert (paid.rung, paid.total, paid.solve_rate) == ("invalid", config.rewards.invalid, None)
    assert {rewards[row.rollout_id].rung for row in answers} == {"wrong"}
