"""What the audit of a run's meaning finds: a small scripted run, damaged in every way, with and without its chains."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest

from storage.audit import anchor, attempts, chains, examined, read_all_seals
from storage.commit import Disk, encode
from storage.findings import Check as Ledgers
from storage.findings import Report, summed
from storage.ids import Mode, Position, Role, Source, Stage, parse, text
from storage.layout import SEAL_FILE, order, partition_of
from storage.partitions import read_rows
from storage.records import (
    VALID,
    Advantage,
    Answer,
    Checkpoint,
    Reward,
    Rollout,
    Row,
    Task,
    TaskParent,
    Tokens,
    UpdateMetric,
)
from storage.retention import Dropped, What, drop
from storage.seals import Seal, ledger_hash, seal_from_json, sealed, to_json
from tasks.auditing.audit import audit_meaning
from tasks.auditing.execution import Instruments
from tasks.auditing.history import Check, Rules
from tasks.loop import LoopConfig
from tasks.reasoning.prompts import load_templates
from tasks.sandbox.analyser import Analyser
from tasks.sandbox.executor import Executor

AT = {stage: Position(2, stage) for stage in Stage}
END = 256
Change = Callable[[Row], Row | None]


class Bytes:
    """The scripted engine's tokens: UTF-8 bytes, and 256 for the end."""

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(one for one in ids if one != END).decode(errors="replace")


class Run(NamedTuple):
    """A run's directory, and what decides what it computes."""

    directory: Path
    config: LoopConfig

    def audit(self, instruments: Instruments | None = None, *, config: LoopConfig | None = None) -> Report:
        rules = Rules(
            config=config or self.config,
            config_hash="c0ffee",
            templates=load_templates("nano"),
            directory=self.directory,
            listed=True,
        )
        seals, results = read_all_seals(self.directory)
        results += chains(self.directory, seals)
        for step in audit_meaning(lambda at: rules, examined(self.directory, seals), instruments):
            results += step
        return summed([*results, *attempts(self.directory, seals)])

    def found(self, instruments: Instruments | None = None) -> dict[str, str]:
        """What is found, as sentences by check."""
        told: dict[str, str] = {}
        for finding in self.audit(instruments).findings:
            told[finding.check] = f"{told.get(finding.check, '')} {finding.where}: {finding.what}"
        return told

    def seal(self, at: Position) -> Seal:
        path = partition_of(self.directory, at) / SEAL_FILE
        return seal_from_json(path.read_text(), str(path))

    def rows(self, at: Position, row_type: type[Row]) -> list[Row]:
        return read_rows(self.directory, self.seal(at), row_type)

    def change(self, at: Position, row_type: type[Row], wanted: Callable[[Row], bool], change: Change) -> Row:
        """Change the first such row in its file and in its seal, and make both chains anew to the end."""
        rows = self.rows(at, row_type)
        first = next(row for row in rows if wanted(row))
        others = [row for row in rows if row is not first]
        changed = change(first)
        self.replace(at, row_type, [*others, *([] if changed is None else [changed])])
        return first

    def replace(self, at: Position, row_type: type[Row], rows: Sequence[Row]) -> None:
        encoded = encode(at, row_type, rows)
        (partition_of(self.directory, at) / encoded.output.file).write_bytes(encoded.data)
        seal = self.seal(at)
        self.forge(replace(seal, outputs={**seal.outputs, row_type.table: encoded.output}))

    def forge(self, changed: Seal) -> None:
        """Put a seal into the place of another, and make all later ones fit it."""
        seals, _ = read_all_seals(self.directory)
        new = sealed(changed)
        made = {str(new.position): new}
        self.write(new)
        for seal in seals.values():
            if order(seal.position) > order(new.position):
                inputs = {name: made[name].content if name in made else old for name, old in seal.inputs.items()}
                before = {name: made[name].integrity if name in made else old for name, old in seal.before.items()}
                made[str(seal.position)] = sealed(replace(seal, inputs=inputs, before=before))
                self.write(made[str(seal.position)])

    def write(self, seal: Seal) -> None:
        (partition_of(self.directory, seal.position) / SEAL_FILE).write_text(to_json(seal))


def play(loop, root: Path, config: LoopConfig) -> Run:
    """A bootstrap and two iterations, with real updates."""
    with loop.open(root, config, loop.drawing(50)) as work:
        loop.bootstrap(work)
        for number in (1, 2):
            loop.iterate(work, number)
    return Run(root / loop.run, config)


@pytest.fixture(scope="module")
def played(loop, tmp_path_factory) -> Run:
    """Such a run, to be read only."""
    return play(loop, tmp_path_factory.mktemp("played"), loop.config(**loop.varied))


@pytest.fixture
def run(played, tmp_path) -> Run:
    """A copy, to be damaged; its checkpoints are those of the other, until they are copied too."""
    copy = tmp_path / played.directory.name
    shutil.copytree(played.directory, copy, ignore=shutil.ignore_patterns("checkpoints"))
    (copy / "checkpoints").symlink_to(played.directory / "checkpoints")
    return Run(copy, played.config)


@pytest.fixture
def checkpoints(played, run) -> Path:
    """The copy's own checkpoints."""
    own = run.directory / "checkpoints"
    own.unlink()
    shutil.copytree(played.directory / "checkpoints", own)
    return own


def own(row: Row) -> str:
    return text(getattr(row, row.key[0]))


def test_a_sound_run_has_no_findings_and_every_check_looked_at_something(played):
    report = played.audit()
    assert (report.findings, report.notes) == ((), ())
    counts = {line.check: line.things for line in report.lines}
    answers = [row for number in (1, 2) for row in played.rows(Position(number, Stage.VERIFY), Answer)]
    rewards = [row for number in (1, 2) for row in played.rows(Position(number, Stage.VERIFY), Reward)]
    assert counts[Check.ANSWERS] == len(answers)
    assert counts[Check.REWARDS] == counts[Check.ADVANTAGES] == len(rewards)
    assert counts[Check.CHECKPOINTS] == 3
    deep = {Check.COMPLETIONS, Check.PROGRAMS, Check.JUDGEMENTS, Check.TEXTS}
    assert {check for check, things in counts.items() if things} == {*Ledgers, *Check} - deep - {Ledgers.ANCHOR}


def test_a_reward_that_was_edited_and_hashed_again_in_its_seal_is_found_in_seal_chain_and_value(run):
    at = AT[Stage.VERIFY]
    rows = run.rows(at, Reward)
    encoded = encode(at, Reward, [replace(rows[0], total=0.125), *rows[1:]])
    (partition_of(run.directory, at) / encoded.output.file).write_bytes(encoded.data)
    seal = run.seal(at)
    edited = replace(seal, outputs={**seal.outputs, "rewards": encoded.output})
    run.write(edited)  # its own hashes are the old ones
    found = run.found()
    assert found.keys() == {Ledgers.SEALS, Check.REWARDS, Check.ADVANTAGES}
    assert "2/verify/seal.json was changed after it was written: its content" in found[Ledgers.SEALS].replace(
        "000002", "2"
    )
    assert f"2/verify: rewards {own(rows[0])}: total is 0.125, computed again {rows[0].total!r}" in found[Check.REWARDS]
    run.write(sealed(edited))  # and now they are its own, but not those that the next seal names
    found = run.found()
    assert found.keys() == {Ledgers.CHAINS, Check.REWARDS, Check.ADVANTAGES}
    assert "2/verify of run played is not the partition that 2/update was made after" in found[Ledgers.CHAINS]


def test_what_changes_no_meaning_and_has_its_chain_made_anew_is_seen_by_the_anchor_alone(run):
    seals, _ = read_all_seals(run.directory)
    written_down = ledger_hash(seals.values())
    assert anchor(seals, written_down).findings == ()
    run.change(AT[Stage.SOLVE], Tokens, any_row, lambda row: replace(row, logprobs=(-1.0, *row.logprobs[1:])))
    seals, _ = read_all_seals(run.directory)
    assert run.found() == {}
    assert anchor(seals, written_down).findings != ()


def to(**values: object) -> Change:
    return lambda row: replace(row, **values)


def gone(row: Row) -> None:
    return None


def any_row(row: Row) -> bool:
    return True


def valid(row: Task) -> bool:
    return row.verdict == VALID


def wrong(row: Answer) -> bool:
    return row.verdict == "wrong"


def read(row: Answer) -> bool:
    return row.answer is not None


def of_solver(row: Reward) -> bool:
    return row.role is Role.SOLVER


def of_valid(row: Reward) -> bool:
    return row.solve_rate is not None


def from_buffer(row: Rollout) -> bool:
    return row.source is Source.BUFFER


def call_correct(row: Answer) -> Answer:
    return replace(row, verdict="correct", passed=row.checks)


def plead(row: Rollout) -> Rollout:
    return replace(row, prompt=f"{row.prompt} please")


LATER, IDENTITY, INDUCTION = parse("3-ded-000"), parse("0.0-abd-000"), parse("2-ind-000")
EDITS = [
    (Stage.VERIFY, Reward, of_solver, to(total=0.3), Check.REWARDS, "rewards {}: total is 0.3, computed again"),
    (Stage.VERIFY, Reward, of_valid, to(probes=99), Check.REWARDS, "rewards {}: probes is 99, computed again 2"),
    (Stage.VERIFY, Reward, any_row, to(rule="mine"), Check.REWARDS, "rewards {}: rule is 'mine'"),
    (Stage.VERIFY, Reward, any_row, gone, Check.REWARDS, "rewards {} is missing"),
    (Stage.VERIFY, Answer, any_row, gone, Check.ANSWERS, "answers {} is missing"),
    (Stage.VERIFY, Answer, wrong, to(verdict="correct"), Check.ANSWERS, "answers {}: it is no correct answer: verdict"),
    (Stage.VERIFY, Answer, wrong, call_correct, Check.REWARDS, "rewards {}: total is"),
    (Stage.VERIFY, Answer, read, to(answer="[7]"), Check.ANSWERS, "answers {}: its content key is not that of its"),
    (
        Stage.VERIFY,
        Answer,
        any_row,
        to(task_id=IDENTITY),
        Check.ANSWERS,
        "answers {}: task_id is 0.0-abd-000, computed",
    ),
    (
        Stage.SOLVE,
        Rollout,
        from_buffer,
        to(task_id=INDUCTION),
        Check.DRAWS,
        "rollouts {}: task_id is 2-ind-000, computed",
    ),
    (Stage.SOLVE, Rollout, any_row, to(seed=7), Check.SAMPLING, "rollouts {}: seed is 7"),
    (Stage.SOLVE, Rollout, any_row, to(policy="x"), Check.SAMPLING, "rollouts {}: policy is 'x'"),
    (Stage.SOLVE, Rollout, any_row, to(completion="new"), Check.SAMPLING, "rollouts {}: content_key is"),
    (Stage.SOLVE, Rollout, any_row, to(finish_reason="bored"), Check.SAMPLING, "rollouts {}: finish_reason 'bored' is"),
    (Stage.SOLVE, Rollout, any_row, plead, Check.PROMPTS, "rollouts {}: its prompt is not the one"),
    (Stage.PROPOSE, Rollout, any_row, plead, Check.PROMPTS, "rollouts {}: its prompt is not the one"),
    (Stage.PROPOSE, Rollout, any_row, gone, Check.DRAWS, "rollouts {} is missing"),
    (Stage.SOLVE, Tokens, any_row, gone, Check.SAMPLING, "tokens {} is missing"),
    (Stage.SOLVE, Tokens, any_row, to(logprobs=()), Check.SAMPLING, "tokens {}: number of logprobs is 0"),
    (Stage.PROPOSE, TaskParent, any_row, gone, Check.DRAWS, "task_parents {} was shown"),
    (Stage.PROPOSE, TaskParent, any_row, to(parent_id=IDENTITY, parent_iteration=0), Check.DRAWS, "{} was shown"),
    (
        Stage.PROPOSE,
        TaskParent,
        any_row,
        to(parent_id=LATER, parent_iteration=3),
        Ledgers.IDS,
        "{} has a parent that is",
    ),
    (Stage.PROPOSE, TaskParent, any_row, to(position=7), Check.DRAWS, "task_parents {} has positions ["),
    (Stage.VALIDATE, Task, valid, to(mode=Mode.ERROR), Ledgers.IDS, "tasks {} has another mode than its id"),
    (Stage.VALIDATE, Task, any_row, gone, Check.TASKS, "tasks {} is missing"),
    (
        Stage.VALIDATE,
        Task,
        valid,
        to(format="empty"),
        Check.TASKS,
        "tasks {}: its verdict is valid, but its format empty",
    ),
    (Stage.VALIDATE, Task, valid, to(verdict="fine"), Check.TASKS, "tasks {}: no verdict is 'fine'"),
    (Stage.VALIDATE, Task, valid, to(outputs=()), Check.TASKS, "tasks {}: it is valid with"),
    (Stage.VALIDATE, Task, valid, to(verdict="duplicate"), Check.TASKS, "tasks {}: it is a duplicate of no earlier"),
    (
        Stage.UPDATE,
        Advantage,
        any_row,
        to(advantage=9.0),
        Check.ADVANTAGES,
        "advantages {}: advantage is 9.0, computed",
    ),
    (Stage.UPDATE, Advantage, any_row, to(weight=0.0), Check.ADVANTAGES, "advantages {}: weight is 0.0"),
    (Stage.UPDATE, Advantage, any_row, gone, Check.ADVANTAGES, "advantages {} is missing"),
    (Stage.UPDATE, UpdateMetric, any_row, to(step=5), Check.UPDATES, "an update of 1 steps has none at step=5"),
    (Stage.UPDATE, Checkpoint, any_row, to(policy="x"), Check.UPDATES, "checkpoints: it names"),
    (Stage.UPDATE, Checkpoint, any_row, to(parent="x"), Check.UPDATES, "checkpoints: it was trained from x, but"),
    (Stage.UPDATE, Checkpoint, any_row, to(optimizer="x"), Check.CHECKPOINTS, ", its row says x"),
    (Stage.UPDATE, Checkpoint, any_row, to(bytes=7), Check.CHECKPOINTS, ", its row says 7"),
    (Stage.VALIDATE, Task, valid, to(program_key=UUID(int=0)), Check.TASKS, "tasks {}: its program key is not that"),
]


@pytest.mark.parametrize(("stage", "row_type", "wanted", "change", "check", "sentence"), EDITS)
def test_an_edit_whose_chains_were_made_anew_is_found_by_what_it_means(
    run, stage, row_type, wanted, change, check, sentence
):
    row = run.change(AT[stage], row_type, wanted, change)
    found = run.found()
    assert not {Ledgers.SEALS, Ledgers.CHAINS, Ledgers.FILES, Ledgers.CONTENTS} & found.keys()
    assert sentence.format(text(getattr(row, row.key[0])) if row.key[0].endswith("_id") else "") in found[check]


def test_a_task_that_is_valid_twice_is_found(run):
    first = next(row for row in run.rows(AT[Stage.VALIDATE], Task) if row.verdict == VALID)
    earlier = next(row for row in run.rows(Position(0, Stage.VALIDATE), Task))
    run.change(AT[Stage.VALIDATE], Task, lambda row: row == first, to(content_key=earlier.content_key))
    told = run.found()[Check.TASKS]
    assert f"tasks {own(first)}: it is valid, but the same task as {own(earlier)}" in told


def test_other_seeds_or_another_config_give_other_draws(played):
    seeded = played.audit(config=played.config.model_copy(update={"seed": 6}))
    assert {Check.STEPS, Check.SAMPLING, Check.DRAWS} <= {finding.check for finding in seeded.findings}
    rewards = played.config.rewards.model_copy(update={"wrong": -0.25})
    found = played.audit(config=played.config.model_copy(update={"rewards": rewards})).findings
    assert {finding.check for finding in found} == {Check.REWARDS}


def test_files_that_changed_places_are_found_in_both(run):
    paths = [partition_of(run.directory, Position(number, Stage.VERIFY)) / "rewards.parquet" for number in (1, 2)]
    one, other = (path.read_bytes() for path in paths)
    paths[0].write_bytes(other)
    paths[1].write_bytes(one)
    found = run.found()
    assert "1/verify" in found[Ledgers.FILES]
    assert "2/verify" in found[Ledgers.FILES]
    assert "rewards 2-ded-000 is of iteration 2, not 1" in found[Ledgers.IDS]


def test_a_seal_that_is_gone_is_named_and_the_rest_is_still_audited(run):
    (partition_of(run.directory, Position(1, Stage.VALIDATE)) / SEAL_FILE).unlink()
    report = run.audit()
    found = {finding.check for finding in report.findings}
    assert {Ledgers.SEALS, Ledgers.CHAINS, Check.STEPS} <= found
    assert not {Check.DRAWS, Check.REWARDS, Check.ADVANTAGES} & found  # what cannot be told is no finding
    assert "draws from 2/propose on cannot be told: 1/validate has no tasks as sealed" in report.notes
    counts = {line.check: line.things for line in report.lines}
    assert counts[Check.REWARDS] == len(run.rows(AT[Stage.VERIFY], Reward))


def test_a_step_that_is_gone_is_named(run):
    shutil.rmtree(run.directory / "ledger" / "000001")
    found = run.found()
    assert "2 does not follow 0." in found[Check.STEPS]
    assert "The seal of 1/update" in found[Ledgers.CHAINS]


def test_a_seal_that_says_other_origins_is_found(run):
    seal = run.seal(AT[Stage.SOLVE])
    run.forge(replace(seal, config_hash="x", seeds={"run": 9}, inputs={}))
    told = run.found()[Check.STEPS]
    assert "2/solve was made under config x, the run's is c0ffee" in told
    assert "2/solve was made with seed 9, the run's is 5" in told
    assert "2/solve says it was made from nothing, not 1/update, 2/validate" in told


def test_a_checkpoint_is_read_whole(run, checkpoints):
    (directory,) = checkpoints.glob("000002-*")
    weights = directory / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "model.safetensors changed or missing" in run.found()[Check.CHECKPOINTS]
    shutil.rmtree(directory)
    assert "is missing, and nothing says" in run.found()[Check.CHECKPOINTS]


def let_go(run: Run, what: What, path: Path, found: str) -> None:
    below = path.relative_to(run.directory).as_posix()
    gone = Dropped(what=what, position="1/update", path=below, hash=found, bytes=1, policy="retention.test = 1")
    drop(run.directory, [gone], Disk(durable=False))


def test_what_retention_dropped_and_lists_is_a_note_and_what_it_does_not_list_a_finding(run, checkpoints):
    (directory,) = checkpoints.glob("000001-*")
    (row,) = run.rows(Position(1, Stage.UPDATE), Checkpoint)
    state = directory / "optimizer"
    shutil.move(state, run.directory / "elsewhere")
    assert "lacks its optimizer state, and nothing says that it was dropped" in run.found()[Check.CHECKPOINTS]
    shutil.move(run.directory / "elsewhere", state)
    let_go(run, What.OPTIMIZER, state, row.optimizer)
    tokens = partition_of(run.directory, Position(1, Stage.SOLVE)) / "tokens.parquet"
    let_go(run, What.TOKENS, tokens, run.seal(Position(1, Stage.SOLVE)).outputs["tokens"].file_hash)
    report = run.audit()
    assert report.findings == ()
    notes = " ".join(report.notes)
    assert "retention dropped checkpoints or optimizer states, and lists them" in notes
    assert "tokens of some stages were dropped by retention, and are listed" in notes
    let_go(run, What.CHECKPOINT, directory, "another hash")
    assert "is missing, and nothing says that it was dropped" in run.found()[Check.CHECKPOINTS]


@pytest.fixture(scope="module")
def instruments(played):
    with Executor(workers=2) as executor, Analyser() as analyser:
        yield Instruments(executor=executor, analyser=analyser, texts=Bytes(), positions=None)


def test_a_deep_audit_runs_and_reads_everything_again(played, instruments):
    report = played.audit(instruments)
    assert report.findings == ()
    counts = {line.check: line.things for line in report.lines}
    assert min(counts[check] for check in (Check.COMPLETIONS, Check.PROGRAMS, Check.JUDGEMENTS, Check.TEXTS)) > 10


def test_an_ablation_is_no_damage_and_its_advantages_are_those_of_the_rewards_as_dealt(loop, tmp_path):
    config = loop.config(**loop.varied, update={"ablation": "shuffled_rewards"})
    dealt = play(loop, tmp_path, config)
    assert dealt.audit().findings == ()
    earned = config.model_copy(update={"update": config.update.model_copy(update={"ablation": "none"})})
    assert "advantage is" in " ".join(one.what for one in dealt.audit(config=earned).findings)


def unread(row: Answer) -> bool:
    return row.answer is None


def other_ids(row: Tokens) -> Tokens:
    return replace(row, prompt_ids=(65, *row.prompt_ids[1:]), completion_ids=(65, *row.completion_ids[1:]))


ONE = "def f(a):\n    return 1"
CORRECT = "answers {}: correct (1, 1) is sealed, now it is wrong (0, 1)"
DEEP = [
    (Stage.VALIDATE, Task, valid, to(outputs=("99",)), Check.PROGRAMS, "tasks {}: ok (99) is sealed, now it is ok ("),
    (Stage.VALIDATE, Task, valid, to(program=ONE), Check.COMPLETIONS, "tasks {}: its format or program is not what"),
    (Stage.VERIFY, Answer, wrong, call_correct, Check.JUDGEMENTS, CORRECT),
    (Stage.VERIFY, Answer, unread, to(format="ok", answer="1"), Check.COMPLETIONS, "answers {}: format ok"),
    (Stage.SOLVE, Tokens, any_row, other_ids, Check.TEXTS, "tokens {}: its completion ids do not give the completion"),
    (Stage.PROPOSE, Tokens, any_row, other_ids, Check.TEXTS, "tokens {}: its prompt ids do not give the prompt"),
]


@pytest.mark.parametrize(("stage", "row_type", "wanted", "change", "check", "sentence"), DEEP)
def test_a_deep_audit_finds_what_stored_values_alone_do_not_tell(
    run, instruments, stage, row_type, wanted, change, check, sentence
):
    row = run.change(AT[stage], row_type, wanted, change)
    assert sentence.format(own(row)) in run.found(instruments)[check]


def test_references_that_were_left_out_without_need_are_found(run, instruments):
    two = next(row for row in run.rows(AT[Stage.PROPOSE], TaskParent) if row.position == 1)
    run.change(AT[Stage.PROPOSE], TaskParent, lambda row: row == two, gone)
    found = run.found(replace(instruments, positions=100_000))
    assert f"task_parents {own(two)} was shown 1 references, one more had fitted" in found[Check.DRAWS]
