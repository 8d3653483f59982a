import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import LedgerError
from storage.hashes import content_hash
from storage.ids import Mode
from storage.records import ROWS, Column, Kind, Row, Task, Tokens, UpdateMetric
from storage.schemas import fields_of, from_parquet, schema_of, to_parquet, to_rows, to_table


def in_order(row_type, rows):
    return sorted(rows, key=lambda row: tuple(getattr(row, name) for name in row_type.key))


@pytest.mark.parametrize("row_type", ROWS, ids=lambda row_type: row_type.table)
@settings(max_examples=25)
@given(data=st.data())
def test_rows_come_back_as_they_were(rows_of, row_type, data):
    rows = data.draw(rows_of(row_type))
    table = to_table(row_type, rows)
    assert to_rows(row_type, table) == in_order(row_type, rows)
    stored = from_parquet(to_parquet(row_type, table))
    assert to_rows(row_type, stored) == in_order(row_type, rows)
    assert content_hash(row_type, stored) == content_hash(row_type, table)


@pytest.mark.parametrize("row_type", ROWS, ids=lambda row_type: row_type.table)
@settings(max_examples=25)
@given(data=st.data())
def test_the_content_hash_sees_rows_and_not_their_form(rows_of, row_type, data):
    rows = data.draw(rows_of(row_type))
    table = to_table(row_type, rows)
    expected = content_hash(row_type, table)
    shuffled = data.draw(st.permutations(range(len(rows))))
    pieces = [table.slice(index, 1) for index in shuffled]
    assert content_hash(row_type, pa.concat_tables([table.slice(0, 0), *pieces])) == expected
    assert content_hash(row_type, table.select(list(reversed(table.column_names)))) == expected
    assert content_hash(row_type, pa.concat_tables([table, table]).slice(len(rows))) == expected


@pytest.mark.parametrize("row_type", ROWS, ids=lambda row_type: row_type.table)
@settings(max_examples=25)
@given(data=st.data())
def test_the_content_hash_changes_with_every_content_column_and_with_no_other(rows_of, row_type, data):
    rows = data.draw(rows_of(row_type).filter(len))
    other = data.draw(rows_of(row_type).filter(len))[0]
    expected = content_hash(row_type, to_table(row_type, rows))
    for field in fields_of(row_type):
        if field.name in row_type.key:
            continue
        value = getattr(other, field.name)
        changed = [dataclasses.replace(rows[0], **{field.name: value}), *rows[1:]]
        # Zero and minus zero are equal in Python, and different bits.
        same = field.column.measured or repr(value) == repr(getattr(rows[0], field.name))
        assert (content_hash(row_type, to_table(row_type, changed)) == expected) == same, field.name


def test_the_content_hash_is_the_documented_encoding():
    row = UpdateMetric(iteration=1, round=0, step=2, name="lo", role="all", mode="é", value=0.5)

    def u64(number):
        return number.to_bytes(8, "little")

    def text(written):
        return u64(len(written.encode())) + written.encode()

    def column(name, kind, body):
        return text(name) + text(kind) + b"\x01" + body

    expected = (
        text("update_metrics")
        + u64(1)
        + column("iteration", "int32", b"\x01\0\0\0")
        + column("mode", "text", u64(2) + "é".encode())
        + column("name", "text", u64(2) + b"lo")
        + column("role", "text", u64(3) + b"all")
        + column("round", "int32", b"\0\0\0\0")
        + column("step", "int32", b"\x02\0\0\0")
        + column("value", "double", b"\0\0\0\0\0\0\xe0\x3f")
    )
    found = content_hash(UpdateMetric, to_table(UpdateMetric, [row]))
    assert found == hashlib.sha256(expected).hexdigest()


def test_every_nan_is_one_value():
    row = UpdateMetric(iteration=1, round=0, step=0, name="loss", role="all", mode="all", value=math.nan)
    table = to_table(UpdateMetric, [row])
    other = np.array([0xFFF8_0000_0000_0001], np.uint64).view(np.float64)
    changed = table.set_column(
        table.column_names.index("value"), schema_of(UpdateMetric).field("value"), pa.array(other)
    )
    assert content_hash(UpdateMetric, changed) == content_hash(UpdateMetric, table)
    assert math.isnan(to_rows(UpdateMetric, changed)[0].value)


def test_what_lies_under_a_null_does_not_matter(samples):
    table = to_table(Task, [samples.task(slot=0), samples.task(slot=1, reason=None)])
    column = table.column_names.index("reason")
    _, offsets, data = pa.array(["ab", "cd"]).buffers()
    dirty = pa.StringArray.from_buffers(2, offsets, data, pa.py_buffer(b"\0"), 2)
    assert dirty.to_pylist() == [None, None]
    changed = table.set_column(column, schema_of(Task).field("reason"), dirty)
    assert content_hash(Task, changed) == content_hash(Task, table)


def test_null_and_empty_text_differ(samples):
    none, empty = samples.task(message=None), samples.task(message="")
    assert content_hash(Task, to_table(Task, [none])) != content_hash(Task, to_table(Task, [empty]))


def test_text_may_hold_anything(samples):
    task = samples.task(
        program="\0 nul", reason="lone \ud800 surrogate", inputs=("\udfff", "fine"), outputs=("\U0001f600",)
    )
    (back,) = to_rows(Task, to_table(Task, [task]))
    assert back.program == "\0 nul"
    assert back.reason == "lone \\ud800 surrogate"
    assert back.inputs == ("\\udfff", "fine")
    assert back.outputs == ("\U0001f600",)


def test_rows_that_cannot_be_stored_are_refused(samples):
    with pytest.raises(LedgerError, match="two rows with task_id"):
        to_table(Task, [samples.task(), samples.task()])
    with pytest.raises(LedgerError, match=r"Column program_key .* cannot hold"):
        to_table(Task, [samples.task(program_key="not a uuid")])
    with pytest.raises(LedgerError, match="Column verdict of table tasks may not be null, but row 0 is"):
        to_table(Task, [samples.task(verdict=None)])
    with pytest.raises(LedgerError, match=r"Column visible .* cannot hold"):
        to_table(Task, [samples.task(visible=2**31)])
    with pytest.raises(LedgerError, match="list with a null"):
        to_table(Task, [samples.task(inputs=("1", None))])
    with pytest.raises(LedgerError, match="was given rows of Rollout"):
        to_table(Task, [samples.rollout()])


def test_schemas_mark_what_is_measured():
    marks = {field.name: field.metadata[b"azr"] for field in schema_of(Task)}
    assert marks["program"] == b"content"
    assert {name for name, mark in marks.items() if mark == b"measured"} == {"cpu_us", "memory_kb", "reason"}
    assert schema_of(Task).field("content_key").type == pa.uuid()
    assert not schema_of(Task).field("verdict").nullable


def test_equal_tables_give_equal_bytes(samples):
    rows = [samples.task(slot=slot) for slot in range(50)]
    assert to_parquet(Task, to_table(Task, rows)) == to_parquet(Task, to_table(Task, rows[::-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Before(Row):
    table: ClassVar[str] = "things"
    key: ClassVar[tuple[str, ...]] = ("thing_id",)

    thing_id: Annotated[int, Column(Kind.INT64, "id")]
    mode: Annotated[Mode | None, Column(Kind.TEXT, "a nullable word")]


@dataclass(frozen=True, slots=True, kw_only=True)
class After(Before):
    note: Annotated[str | None, Column(Kind.TEXT, "added later")] = None
    flags: Annotated[int, Column(Kind.INT32, "added later, with a default")] = 7


def test_a_column_added_later_changes_no_old_hash_and_reads_as_its_default():
    old = to_table(Before, [Before(iteration=1, round=0, thing_id=1, mode=Mode.ERROR)])
    assert content_hash(After, old) == content_hash(Before, old)
    assert to_rows(After, old) == [After(iteration=1, round=0, thing_id=1, mode=Mode.ERROR, note=None, flags=7)]
    with pytest.raises(LedgerError, match="no column rollout_id"):
        to_rows(Tokens, old)


def test_token_lists_keep_their_bits():
    row = Tokens(iteration=1, round=0, rollout_id=1, prompt_ids=(), completion_ids=(2**31 - 1,), logprobs=(-0.0,))
    (back,) = to_rows(Tokens, from_parquet(to_parquet(Tokens, to_table(Tokens, [row]))))
    assert math.copysign(1, back.logprobs[0]) == -1
