"""What a sealed stage has cost: its seconds, and the tokens that the model sampled for it."""

from __future__ import annotations

import pyarrow.compute as pc

from storage.ledger import Ledger
from storage.records import Rollout
from storage.seals import Seal


def seconds(seal: Seal) -> float:
    """How long the attempt took that was sealed."""
    return max(0, seal.timings.finished_us - seal.timings.started_us) / 1e6


def sampled_tokens(ledger: Ledger, seal: Seal) -> int:
    """The tokens of all completions of a sealed stage; raises LedgerError when its file is not what was sealed."""
    if Rollout.table not in seal.outputs:
        return 0
    rollouts = ledger.table(Rollout, seal.position, columns=["completion_tokens"])
    return int(pc.sum(rollouts["completion_tokens"]).as_py() or 0)
