"""Which checkpoints of a run may go, and which may lose their optimizer state, by seals and directories alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from models.manifest import OPTIMIZER, checkpoint_name, list_checkpoints
from storage.config import RetentionConfig
from storage.ids import Position, Stage
from storage.layout import CHECKPOINTS
from storage.retention import Dropped, What, size_of
from storage.seals import Seal

GB = 1_000_000_000


def spare_checkpoints(
    run_directory: Path, updates: Mapping[int, Seal], config: RetentionConfig, held: Collection[int]
) -> list[Dropped]:
    """What may go of the checkpoints in a run's directory, in the order in which it goes.

    First those that killed attempts published and nothing sealed names; then, while all take more than the room, the
    optimizer states that the policy does not protect, oldest first, and then whole checkpoints likewise.

    Args:
        run_directory: the run whose checkpoints they are.
        updates: the sealed updates of its history by iteration, the base's not among them.
        config: how many are kept.
        held: iterations whose checkpoint a fork starts from.
    """
    states = kept(updates, config.optimizer_last, config.optimizer_every) | set(held)
    weights = kept(updates, config.checkpoints_last, config.checkpoints_every) | states
    sizes = {path.name: (size_of(path), size_of(path / OPTIMIZER)) for path in list_checkpoints(run_directory)}
    named = {number: checkpoint_name(number, seal.artifacts["policy"]) for number, seal in updates.items()}
    here = {number: name for number, name in named.items() if name in sizes}
    spare = list(_unsealed(set(sizes) - set(named.values()), sizes, max(updates, default=0)))
    total = sum(sizes[name][0] for name in here.values())
    for thing in _by_policy(here, sizes, updates, config, states, weights):
        if total <= config.room_gb * GB:
            break
        total -= thing.bytes
        spare.append(thing)
    return spare


def trainable(run_directory: Path, update: Seal, gone: Mapping[str, Dropped]) -> bool:
    """Whether training can start from the checkpoint of an update: weights and optimizer state are there to stay."""
    path = f"{CHECKPOINTS}/{checkpoint_name(update.iteration, update.artifacts['policy'])}"
    return path not in gone and f"{path}/{OPTIMIZER}" not in gone and (run_directory / path / OPTIMIZER).is_dir()


def kept(iterations: Iterable[int], last: int, every: int) -> set[int]:
    """The last so many iterations, and every so many; 0 is none of the latter."""
    ordered = sorted(iterations)
    return set(ordered[-last:]) | {number for number in ordered if every and number % every == 0}


def _by_policy(
    here: Mapping[int, str],
    sizes: Mapping[str, tuple[int, int]],
    updates: Mapping[int, Seal],
    config: RetentionConfig,
    states: Collection[int],
    weights: Collection[int],
) -> Iterable[Dropped]:
    whole = {number: sizes[here[number]] for number in sorted(here)}
    policy = f"retention.optimizer_last = {config.optimizer_last}, optimizer_every = {config.optimizer_every}"
    for number, (_, state) in whole.items():
        if number not in states and state:
            path, found = f"{CHECKPOINTS}/{here[number]}/{OPTIMIZER}", updates[number].artifacts["optimizer"]
            yield _thing(What.OPTIMIZER, number, path, found, state, policy)
    policy = f"retention.checkpoints_last = {config.checkpoints_last}, checkpoints_every = {config.checkpoints_every}"
    for number, (both, state) in whole.items():
        if number not in weights:
            path, found = f"{CHECKPOINTS}/{here[number]}", updates[number].artifacts["policy"]
            yield _thing(What.CHECKPOINT, number, path, found, both - state, policy)


def _unsealed(names: Collection[str], sizes: Mapping[str, tuple[int, int]], last: int) -> Iterable[Dropped]:
    for name in sorted(names):
        number = int(name.partition("-")[0])
        if number <= last:  # a later one may be about to be sealed
            path, policy = f"{CHECKPOINTS}/{name}", "no seal names it"
            yield _thing(What.UNSEALED, number, path, name.partition("-")[2], sizes[name][0], policy)


def _thing(what: What, iteration: int, path: str, found: str, size: int, policy: str) -> Dropped:
    position = str(Position(iteration, Stage.UPDATE))
    return Dropped(what=what, position=position, path=path, hash=found, bytes=size, policy=policy)
