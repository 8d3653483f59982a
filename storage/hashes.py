"""The content hash of a table: over logical values only, so it survives any change of file, writer or machine.

The bytes hashed (SHA-256), all integers little-endian, `text` being a u64 length and that many UTF-8 bytes:

    text(table name)  u64 rows
    for each content column that the table has, in the order of their names:
        text(column name)  text(kind, as in records.Kind)
        one byte per row: 1, or 0 for null
        INT32, INT64, DOUBLE   4, 8 or 8 bytes per row: two's complement, or IEEE 754 with every NaN the same quiet NaN
        UUID                   16 bytes per row
        TEXT                   u64 length per row, then the bytes of all rows one after another
        INTS, FLOATS           u64 count per row, then 4 bytes per element of all rows
        TEXTS                  u64 count per row, then u64 length per element, then the bytes of all elements
    where a null counts as zero bits, length 0 or count 0.

Rows are in the order of the table's key. Every size comes before what it measures, so no two tables share their bytes.
Measured columns, the order of columns, chunks and file encodings do not matter. A column that was added to the records
later is not in an older file, and so not in its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.records import Kind, Row
from storage.schemas import Field, fields_of

_Encoder = Callable[[pa.Array], Iterator[bytes]]


def content_hash(row_type: type[Row], table: pa.Table) -> str:
    """The content hash of a table, as 64 hexadecimal digits."""
    hasher = hashlib.sha256(_text(row_type.table) + _u64(table.num_rows))
    table = _in_order(row_type, table)
    for field in sorted(fields_of(row_type)):
        if field.name in table.column_names and not field.column.measured:
            for part in _column(field, table.column(field.name)):
                hasher.update(part)
    return hasher.hexdigest()


def text_hash(written: str) -> str:
    """SHA-256 of a text, as 64 hexadecimal digits."""
    return hashlib.sha256(written.encode()).hexdigest()


def bytes_hash(data: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits; what `sha256sum` prints for a file with them."""
    return hashlib.sha256(data).hexdigest()


def _in_order(row_type: type[Row], table: pa.Table) -> pa.Table:
    indices = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in row_type.key])
    if np.array_equal(indices.to_numpy(), np.arange(table.num_rows)):
        return table  # sealed tables always are; spares a copy
    return pa.table({name: _taken(table.column(name), indices) for name in table.column_names})


def _taken(column: pa.ChunkedArray, indices: pa.Array) -> pa.ChunkedArray:
    chunks = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in column.chunks]
    plain = pa.chunked_array(chunks, column.type.storage_type) if isinstance(column.type, pa.UuidType) else column
    return plain.take(indices)


def _column(field: Field, column: pa.ChunkedArray) -> Iterator[bytes]:
    yield _text(field.name) + _text(field.column.kind.value)
    chunks = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in column.chunks]
    for encode in (_presence, *_ENCODERS[field.column.kind]):
        for chunk in chunks:  # each encoder over the whole column, so chunks leave no trace
            if len(chunk):
                yield from encode(chunk)


def _presence(chunk: pa.Array) -> Iterator[bytes]:
    yield chunk.is_valid().to_numpy(zero_copy_only=False).astype("u1").tobytes()


def _fixed(dtype: str) -> _Encoder:
    def encode(chunk: pa.Array) -> Iterator[bytes]:
        yield chunk.fill_null(0).to_numpy(zero_copy_only=False).astype(dtype).tobytes()

    return encode


def _floating(dtype: str) -> _Encoder:
    def encode(chunk: pa.Array) -> Iterator[bytes]:
        numbers = np.array(chunk.fill_null(0).to_numpy(zero_copy_only=False), dtype)
        numbers[np.isnan(numbers)] = np.nan
        yield numbers.tobytes()

    return encode


def _uuids(chunk: pa.Array) -> Iterator[bytes]:
    yield b"".join(bytes(16) if value is None else value for value in chunk.to_pylist())


def _lengths(chunk: pa.Array) -> Iterator[bytes]:
    yield from _fixed("<u8")(pc.binary_length(chunk))


def _counts(chunk: pa.Array) -> Iterator[bytes]:
    yield from _fixed("<u8")(pc.list_value_length(chunk))


def _body(chunk: pa.Array) -> Iterator[bytes]:
    """The UTF-8 bytes of all rows: one piece of the array's own buffer once nulls are dropped."""
    kept = chunk.drop_null()
    if len(kept) and kept.buffers()[2] is not None:
        _, offsets, data = kept.buffers()
        first, last = np.frombuffer(offsets, np.int32, len(kept) + 1, kept.offset * 4)[[0, -1]].tolist()
        yield data.slice(first, last - first).to_pybytes()


def _elements(encode: _Encoder) -> _Encoder:
    def flattened(chunk: pa.Array) -> Iterator[bytes]:
        flat = chunk.flatten()  # honours slices, and leaves out what lies under nulls
        if len(flat):
            yield from encode(flat)

    return flattened


_ENCODERS: dict[Kind, tuple[_Encoder, ...]] = {
    Kind.INT32: (_fixed("<i4"),),
    Kind.INT64: (_fixed("<i8"),),
    Kind.DOUBLE: (_floating("<f8"),),
    Kind.UUID: (_uuids,),
    Kind.TEXT: (_lengths, _body),
    Kind.INTS: (_counts, _elements(_fixed("<i4"))),
    Kind.FLOATS: (_counts, _elements(_floating("<f4"))),
    Kind.TEXTS: (_counts, _elements(_lengths), _elements(_body)),
}


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _text(written: str) -> bytes:
    encoded = written.encode()
    return _u64(len(encoded)) + encoded
