import dataclasses
import json
import pickle

import pytest

from storage.errors import LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.seals import (
    SEAL_VERSION,
    content_of,
    facts_from_json,
    integrity_of,
    ledger_hash,
    seal_from_json,
    sealed,
    to_json,
)

SOLVE = Position(1, Stage.SOLVE)


@pytest.fixture
def seal(root):
    return Ledger.open(root, "nano").require(SOLVE)


def test_a_seal_reads_back(seal):
    assert seal_from_json(to_json(seal), "seal.json") == seal
    assert seal.position == SOLVE
    assert list(seal.inputs) == ["1/validate"]
    assert list(seal.before) == ["1/validate"]


def test_content_says_what_was_computed_and_not_where_or_when(seal):
    for changed in (
        dataclasses.replace(seal, run="other"),
        dataclasses.replace(seal, attempt=7),
        dataclasses.replace(seal, code_version="fixed"),
        dataclasses.replace(seal, host={"cpu": "other"}),
        dataclasses.replace(seal, flow_run_id="x"),
        dataclasses.replace(seal, before={}),
        dataclasses.replace(seal, timings=dataclasses.replace(seal.timings, cpu_us=9)),
    ):
        assert content_of(changed) == seal.content
        assert integrity_of(changed) != seal.integrity
    tokens = seal.outputs["tokens"]
    for changed in (
        dataclasses.replace(seal, iteration=2),
        dataclasses.replace(seal, stage=Stage.VERIFY),
        dataclasses.replace(seal, config_hash="x"),
        dataclasses.replace(seal, inputs={}),
        dataclasses.replace(seal, artifacts={"checkpoint": "x"}),
        dataclasses.replace(seal, outputs={**seal.outputs, "tokens": dataclasses.replace(tokens, rows=9)}),
        dataclasses.replace(seal, outputs={**seal.outputs, "tokens": dataclasses.replace(tokens, content_hash="x")}),
    ):
        assert content_of(changed) != seal.content
    other_bytes = {**seal.outputs, "tokens": dataclasses.replace(tokens, file_hash="x", bytes=1)}
    assert content_of(dataclasses.replace(seal, outputs=other_bytes)) == seal.content


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("config_hash", "other", "was changed after it was written: its content"),
        ("attempt", 9, "was changed after it was written: its integrity"),
        ("content", "0", "its content says 0"),
        ("iteration", -1, "iteration: Input should be greater"),
        ("iteration", "1", "iteration: Input should be a valid integer"),
        ("stage", "dance", "stage: Input should be 'propose'"),
        ("surprise", 1, "surprise: Unexpected keyword"),
        ("seal_version", SEAL_VERSION + 1, "has seal_version 2, this azr reads up to 1.*code version abc123 or later"),
        ("schema_version", 99, "has schema_version 99"),
    ],
)
def test_a_seal_that_was_edited_or_is_newer_is_refused(seal, name, value, complaint):
    fields = json.loads(to_json(seal)) | {name: value}
    with pytest.raises(LedgerError, match=complaint):
        seal_from_json(json.dumps(fields), "seal.json")


@pytest.mark.parametrize("written", ["", "{", "[]", "{}", to_json.__doc__])
def test_a_torn_seal_is_refused(written):
    with pytest.raises(LedgerError, match=r"seal\.json is damaged") as caught:
        seal_from_json(written, "seal.json")
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), LedgerError)  # noqa: S301 - our own bytes


def test_facts_read_back(samples):
    facts = samples.facts()
    assert facts_from_json(to_json(facts), "run.json") == facts
    with pytest.raises(LedgerError, match=r"run.json is damaged: seed"):
        facts_from_json(to_json(dataclasses.replace(facts, seed="x")), "run.json")


def test_the_ledger_hash_covers_content_in_order(seal):
    first = sealed(dataclasses.replace(seal, stage=Stage.PROPOSE))
    assert ledger_hash([first, seal]) == ledger_hash([seal, first])
    assert ledger_hash([first]) != ledger_hash([first, seal])
    assert ledger_hash([sealed(dataclasses.replace(seal, run="other", attempt=3))]) == ledger_hash([seal])
