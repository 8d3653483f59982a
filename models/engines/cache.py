"""A key-value cache for decoding many sequences together: written in place, and narrowed to the rows still going.

B rows, U prompts that rows may share, H heads, T positions, D head size. transformers' DynamicCache concatenates, which
copies every key and value at every step; this one reserves room ahead and copies when it runs out of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

_ROOM = 64  # positions reserved ahead at first; after that, half of what is used


class RoomyLayer(CacheLayerMixin):  # type: ignore[no-untyped-call] # transformers leaves its hook untyped
    """One layer's keys and values, `[B, H, T, D]` with room for more positions than are used."""

    is_sliding = False  # every position is kept; a sliding model's attention mask hides the far ones

    def __init__(self, keys_BHTD: Tensor, values_BHTD: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # transformers leaves it untyped
        self._used = keys_BHTD.shape[2]
        self.keys: Tensor = _with_room(keys_BHTD, _ROOM)
        self.values: Tensor = _with_room(values_BHTD, _ROOM)
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: a layer begins with the prompt's keys and values."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append positions; returns all keys and values used, as views."""
        start, self._used = self._used, self._used + key_states.shape[2]
        if self._used > self.keys.shape[2]:
            self.keys = _with_room(self.keys[:, :, :start], key_states.shape[2] + start // 2)
            self.values = _with_room(self.values[:, :, :start], key_states.shape[2] + start // 2)
        self.keys[:, :, start : self._used] = key_states
        self.values[:, :, start : self._used] = value_states
        return self.keys[:, :, : self._used], self.values[:, :, : self._used]

    def keep(self, rows: Tensor) -> None:
        """Narrow to these rows, in this order."""
        self.keys = self.keys.index_select(0, rows)
        self.values = self.values.index_select(0, rows)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the mask that the next `query_length` positions need."""
        return self._used + query_length, 0

    def get_seq_length(self) -> int:
        """Positions used."""
        return self._used

    def get_max_length(self) -> int:
        """No limit."""
        return -1


class RoomyCache(Cache):
    """All layers' keys and values of the rows being decoded."""

    def __init__(self, prefills: Sequence[DynamicCache], rows: Tensor) -> None:
        """Begin with prefills, U prompts in all and equally wide; `rows` (B) says which prompt each row continues."""
        layers = zip(*(prefill.layers for prefill in prefills), strict=True)
        self._rows = [
            RoomyLayer(
                torch.cat([part.keys for part in parts]).index_select(0, rows),
                torch.cat([part.values for part in parts]).index_select(0, rows),
            )
            for parts in layers
        ]
        super().__init__(layers=list(self._rows))

    def keep(self, rows: Tensor) -> None:
        """Narrow to these rows, in this order."""
        for layer in self._rows:
            layer.keep(rows)


def _with_room(states_BHTD: Tensor, room: int) -> Tensor:
    rows, heads, used, size = states_BHTD.shape
    roomy = torch.empty(rows, heads, used + room, size, dtype=states_BHTD.dtype, device=states_BHTD.device)
    roomy[:, :, :used] = states_BHTD
    return roomy
