"""Prompts that leave room for a completion: tasks that are too long for the model, and references that are left out."""

from pathlib import Path

from models.policy import resolve_base
from storage import ids
from storage.ids import Mode, Position, Role, Stage
from storage.records import Rollout, Task, TaskParent
from tasks.fitting import fitting, reference_prompt, task_prompt
from tasks.workshop import Workshop

PROPOSED, VALIDATED = Position(1, Stage.PROPOSE), Position(1, Stage.VALIDATE)
LONG = "def f(a):\n    return [a, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ']"  # one token a letter
POSITIONS = 1024  # of the nano model


def task(program: str, arguments: str) -> str:
    return f"<|program|>{program}<|input|>{arguments}"


def test_a_completion_of_full_length_fits_behind_the_longest_prompt(loop, tmp_path):
    config = loop.config(sampling={"proposer_tokens": 300, "solver_tokens": 1000})
    with loop.open(tmp_path, config) as work:
        assert (work.prompt_limit(Role.PROPOSER), work.prompt_limit(Role.SOLVER)) == (724, 24)


def test_a_task_that_no_solver_could_be_shown_is_too_large(loop, tmp_path):
    config = loop.config(curriculum={"modes": ["deduction"]}, sampling={"solver_tokens": POSITIONS - 40})
    lines = {"1-ded-000": task(LONG, "1"), "1-ded-001": task("def f(a):\n    return a", "1")}
    with loop.open(tmp_path, config, loop.play(config, lines)) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1, until=Stage.VALIDATE)
        long, short = work.ledger.read(Task, VALIDATED)
        tokens = [work.tokenizer.count(task_prompt(work, row)) for row in (long, short)]
    assert tokens[1] <= 40 < tokens[0]
    assert (long.verdict, short.verdict) == ("too_large", "valid")
    assert long.reason == f"a solver's prompt with it has {tokens[0]} tokens, 40 fit"
    assert long.outputs == ("[1, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ']",)


def test_a_task_that_no_proposer_could_be_shown_is_too_large(loop, tmp_path):
    """Its prompt as a puzzle counts too: the program of an abduction is shown to proposers of induction."""
    config = loop.config(curriculum={"modes": ["abduction", "induction"]}, sampling={"proposer_tokens": POSITIONS - 60})
    lines = {"0.1-ind-000": "<|input|>1<|input|>2<|input|>3<|message|>m", "1-abd-000": task(LONG, "1")}
    with loop.open(tmp_path, config, loop.play(config, lines, otherwise="no")) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1, until=Stage.VALIDATE)
        row = loop.named(work.ledger.read(Task, VALIDATED), "1-abd-000")
        tokens = work.tokenizer.count(reference_prompt(work, Mode.ABDUCTION, [row]))
    assert (row.verdict, row.reason) == ("too_large", f"a proposer's prompt with it has {tokens} tokens, 60 fit")


def crowded(loop, root, positions: int) -> Workshop:
    """A run whose proposers are to be shown three tasks, with room for so many prompt tokens."""
    config = loop.config(
        curriculum={"modes": ["deduction"], "references_min": 3, "references_max": 3, "proposals": 4},
        bootstrap={"wanted": 4, "proposals": 3},
        sampling={"proposer_tokens": POSITIONS - positions},
    )
    lines = {f"0.1-ded-00{slot}": task(f"def f(a):\n    return a + {slot}", "1") for slot in range(3)}
    work = loop.open(root, config, loop.play(config, lines, otherwise="no"))
    loop.bootstrap(work)
    loop.iterate(work, 1, until=Stage.PROPOSE)
    return work


def shown(work: Workshop) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in work.ledger.read(TaskParent, PROPOSED):
        found.setdefault(ids.text(row.task_id), []).append(ids.text(row.parent_id))
    return found


def test_references_are_left_out_from_the_last_until_the_prompt_fits(loop, tmp_path):
    with crowded(loop, tmp_path / "wide", 200) as wide, crowded(loop, tmp_path / "narrow", 32) as narrow:
        all_three, fewer = shown(wide), shown(narrow)
        prompts = [row.prompt for row in narrow.ledger.read(Rollout, PROPOSED)]
        tokens = [narrow.tokenizer.count(prompt) for prompt in prompts]
        given = [prompt.count("<|program|>") for prompt in prompts]
    assert {len(names) for names in all_three.values()} == {3}
    assert fewer == {name: all_three[name][: len(names)] for name, names in fewer.items()}
    assert max(tokens) <= 32
    assert given == [len(names) for names in fewer.values()]
    assert set(given) == {2}


def test_one_reference_is_always_shown(loop, tmp_path):
    with crowded(loop, tmp_path, 45) as work:
        tasks = work.ledger.read(Task, Position(0, Stage.VALIDATE, 1))
        cramped = Workshop(ledger=work.ledger, config=loop.config(sampling={"proposer_tokens": 1020}), code_version="")
        assert fitting(cramped, Mode.DEDUCTION, tasks) == [tasks[0]]
        assert fitting(cramped, Mode.DEDUCTION, []) == []


def test_the_base_is_looked_for_once_and_not_for_every_prompt(loop, tmp_path, monkeypatch):
    """Its name may be a hub's: each look is a request over the network, or a wait for one that does not answer."""
    looked: list[str] = []

    def look(path: str) -> Path:
        looked.append(path)
        return resolve_base(path)

    monkeypatch.setattr("tasks.workshop.resolve_base", look)
    with loop.open(tmp_path, loop.config()) as work:
        limits = [work.prompt_limit(role) for role in (Role.PROPOSER, Role.SOLVER) * 3]
        assert work.tokenizer.count("<|answer|>") == 1
    assert limits == [724, 724] * 3
    assert len(looked) <= 2
