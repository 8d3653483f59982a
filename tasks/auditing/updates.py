"""The audit of updates: advantages computed again from rewards, metrics, and checkpoints by their hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from models.config import UpdateConfig
from models.manifest import OPTIMIZER, verify
from models.policy import combine, file_hash, policy_files, policy_hash, resolve_base
from storage.errors import AzrError
from storage.findings import Result, result
from storage.ids import Mode, Position, Role, Stage
from storage.records import Advantage, Checkpoint, Reward, Rollout, UpdateMetric
from storage.retention import dropped, explains
from tasks.auditing.history import Check, History, Rules, Step, Values, differences
from tasks.crediting import credited
from tasks.needs import BASE

_ADVANTAGE = ("role", "mode", "advantage", "baseline", "scale", "weight")
_LET_GO = "retention dropped checkpoints or optimizer states, and lists them; their hashes stay in the seals"
_STATED = ("policy", "parent", "optimizer", "optimizer_steps", "parameters", "bytes")  # by row and manifest
_UNLISTED = "optimizer states are gone that no list names: the run began before such a list was kept"
_ALL = "all"
_ROLES = {_ALL, *(role.value for role in Role)}
_MODES = {_ALL, *(mode.value for mode in Mode)}


def audit_advantages(rules: Rules, step: Step) -> Iterator[Result]:
    """Every advantage and loss weight of a step."""
    at = step.at(Stage.UPDATE)
    found, rewards = step.rows(Stage.UPDATE, Advantage), step.rows(Stage.VERIFY, Reward)
    if found is None:
        return
    lengths = _lengths(step)
    if rewards is None or lengths is None or any(row.rollout_id not in lengths for row in rewards):
        yield result(
            Check.ADVANTAGES, str(at), 0, [], [f"advantages of {at} cannot be computed again: not all was read"]
        )
        return
    expected = {row.rollout_id: _values(row) for row in credited(rules.config, at, rewards, lengths)}
    stated = {row.rollout_id: _values(row) for row in found}
    yield result(Check.ADVANTAGES, str(at), len(found), differences(Advantage.table, _ADVANTAGE, expected, stated))


def audit_update(rules: Rules, history: History, step: Step) -> Iterator[Result]:
    """The metrics of an update, its one checkpoint row, and the files that the row names."""
    at = step.at(Stage.UPDATE)
    partition = step.partitions.get(Stage.UPDATE)
    metrics, rows = step.rows(Stage.UPDATE, UpdateMetric), step.rows(Stage.UPDATE, Checkpoint)
    if partition is None:
        return
    wrong = [line for metric in metrics or () for line in _odd(rules.config.update, metric)]
    if rows is not None:
        wrong += _checkpoint(at, rows, history.policy_before(at), partition.seal.artifacts)
    yield result(Check.UPDATES, str(at), len(metrics or ()) + len(rows or ()), wrong)
    for row in rows or ():
        yield _base(rules, at, row) if row.directory is None else _files(rules, at, row, Path(row.directory))


def _lengths(step: Step) -> dict[int, int] | None:
    """Completion tokens of every rollout of the step."""
    proposals, answers = step.rows(Stage.PROPOSE, Rollout), step.rows(Stage.SOLVE, Rollout)
    if proposals is None or answers is None:
        return None
    return {row.rollout_id: row.completion_tokens for row in (*proposals, *answers)}


def _values(row: Advantage) -> Values:
    return (row.role, row.mode, row.advantage, row.baseline, row.scale, row.weight)


def _odd(config: UpdateConfig, metric: UpdateMetric) -> Iterator[str]:
    known = 0 <= metric.step < config.steps and metric.role in _ROLES and metric.mode in _MODES
    if not known:
        where = f"step={metric.step} role={metric.role!r} mode={metric.mode!r}"
        yield f"{metric.table} {metric.name}: an update of {config.steps} steps has none at {where}"


def _checkpoint(
    at: Position, rows: Sequence[Checkpoint], before: str | None, artifacts: Mapping[str, str]
) -> Iterator[str]:
    if len(rows) != 1:
        yield f"{Checkpoint.table} has {len(rows)} rows, an update publishes one"
    for row in rows:
        parent = None if at == BASE else before or row.parent
        if row.parent != parent:
            yield f"{row.table}: it was trained from {row.parent}, but the policy before is {parent}"
        stated = {name: one for name, one in (("policy", row.policy), ("optimizer", row.optimizer)) if one is not None}
        if stated != dict(artifacts):
            yield f"{row.table}: it names {stated}, its seal {dict(artifacts)}"


def _base(rules: Rules, at: Position, row: Checkpoint) -> Result:
    """The base lies outside the run, and may not be on this machine."""
    try:
        found = policy_hash(resolve_base(rules.config.model.path))
    except AzrError as error:
        return result(Check.CHECKPOINTS, str(at), 0, [], [f"the base model cannot be checked here: {error}"])
    wrong = f"the base model {rules.config.model.path} is {found[:12]} here, the run began with {row.policy[:12]}"
    return result(Check.CHECKPOINTS, str(at), 1, [wrong] if found != row.policy else [])


def _files(rules: Rules, at: Position, row: Checkpoint, name: Path) -> Result:
    """Every file of a checkpoint against its manifest, and the manifest against the row."""
    directory = rules.directory / name
    if not directory.is_dir():
        gone = _is_listed(rules, name, row.policy)
        missing = f"{directory} is missing, and nothing says that it was dropped: policy {row.policy[:12]}"
        return result(Check.CHECKPOINTS, str(at), 1, [] if gone else [missing], [_LET_GO] if gone else [])
    try:
        manifest = verify(directory)
        files = {file: manifest.files.get(file) or file_hash(directory / file) for file in policy_files(directory)}
    except (AzrError, OSError) as error:
        return result(Check.CHECKPOINTS, str(at), 1, [str(error)])
    found = {name: getattr(manifest, name) for name in _STATED} | {"policy": combine(files)}
    stated = {name: getattr(row, name) for name in _STATED}
    wrong = [
        f"{directory} has {name} {found[name]}, its row says {stated[name]}"
        for name in _STATED
        if found[name] != stated[name]
    ]
    notes: list[str] = []
    if not (directory / OPTIMIZER).is_dir():
        lacking = f"{directory} lacks its optimizer state, and nothing says that it was dropped"
        if _is_listed(rules, name / OPTIMIZER, row.optimizer or ""):
            notes.append(_LET_GO)
        elif rules.listed:
            wrong.append(lacking)
        else:
            notes.append(_UNLISTED)
    return result(Check.CHECKPOINTS, str(at), 1, wrong, notes)


def _is_listed(rules: Rules, path: Path, wanted: str) -> bool:
    """Whether retention dropped it."""
    return explains(dropped(rules.directory), path, wanted)
