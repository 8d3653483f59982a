"""The commands of the small base model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flows.commands.common import HERE, Common, nano_app


@nano_app.command
def pretrain(
    *,
    minutes: float = 30.0,
    tokens: int | None = None,
    seed: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path = Path("nano"),
    common: Common = HERE,
) -> int:
    """Train the nano base from scratch on generated programs; the same command again continues.

    Args:
        minutes: Time to train, in all; it becomes a number of tokens by the measured speed of this machine.
        tokens: Tokens to train on, instead of minutes.
        seed: Of the weights and the documents.
        device: Where to train.
        out: Directory for the weights and the state to continue from.
    """
    from flows.nano import pretrain as run_pretraining

    return run_pretraining(minutes=minutes, tokens=tokens, seed=seed, device=device, out=out)


@nano_app.command
def evaluate(
    model: str = "nano",
    /,
    *,
    count: int = 300,
    proposals: int = 500,
    temperatures: tuple[float, ...] = (0.0, 1.0),
    common: Common = HERE,
) -> int:
    """Print what a nano model solves of the held-out problems, and what its proposals are worth.

    Args:
        model: nano, or the directory of a model, such as runs/nano/checkpoints/000020-0123456789ab.
        count: Held-out problems of each part, level and mode (at most 500).
        proposals: Proposals of each mode; 0 leaves them out.
        temperatures: Of the answers; 0 is greedy.
    """
    from flows.nano import evaluate as run_evaluation

    return run_evaluation(model, count=count, proposals=proposals, temperatures=temperatures)
