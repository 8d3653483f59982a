"""What a sealed stage has cost: its seconds, and the tokens that the model sampled for it."""

from __future__ import annotations

import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.layout import partition_of
from storage.ledger import Ledger
from storage.records import Rollout
from storage.seals import Seal


def seconds(seal: Seal) -> float:
    """How long the attempt took that was sealed."""
    return max(0, seal.timings.finished_us - seal.timings.started_us) / 1e6


def sampled_tokens(ledger: Ledger, seal: Seal) -> int:
    """The tokens of all completions of a sealed stage; one column is read. Raises OSError when its file is gone."""
    output = seal.outputs.get(Rollout.table)
    if output is None:
        return 0
    file = partition_of(ledger.home(seal.position), seal.position) / output.file
    column = pq.read_table(file, columns=["completion_tokens"])["completion_tokens"]
    return int(pc.sum(column).as_py() or 0)
