import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import buffers
from storage.buffers import first_with, tasks_of, valid_ids
from storage.errors import LedgerError
from storage.ids import BITS, Mode, Place, Position, Stage, first_of_step, pack, parse, text
from storage.ledger import Ledger
from storage.records import Task

VALIDATED = Position(1, Stage.VALIDATE)


@pytest.fixture
def history(tmp_path, samples):
    """Two bootstrap rounds and one iteration of validated tasks."""
    first, copy = samples.task(0, 0), samples.task(0, 0, round=1, content_key=samples.task(0, 0).content_key)
    stages = {
        Position(0, Stage.VALIDATE, 0): {Task: [first, samples.task(0, 1, verdict="error")]},
        Position(0, Stage.VALIDATE, 1): {Task: [copy, samples.task(0, 2, round=1, mode=Mode.INDUCTION)]},
        VALIDATED: {Task: [samples.task(1, 0), samples.task(1, 1, content_key=None)]},
        Position(1, Stage.UPDATE): {},
    }
    with Ledger.create(tmp_path, samples.facts(), disk=samples.quick) as ledger:
        samples.seal(ledger, stages)
    return Ledger.open(tmp_path, "nano")


def buffer(ledger, *before):
    return {mode.value[:3]: [text(one) for one in ids] for mode, ids in valid_ids(ledger, Position(*before)).items()}


def test_the_buffers_are_every_valid_task_before_a_position(history):
    seeds = {"ded": ["0.0-ded-000", "0.1-ded-000"], "ind": ["0.1-ind-002"]}
    after = seeds | {"ded": [*seeds["ded"], "1-ded-000", "1-ded-001"]}
    assert buffer(history, 0, Stage.PROPOSE, 0) == {"ded": [], "ind": []}
    assert buffer(history, 0, Stage.VALIDATE, 0) == {"ded": [], "ind": []}
    assert buffer(history, 0, Stage.PROPOSE, 1) == {"ded": ["0.0-ded-000"], "ind": []}
    assert buffer(history, 1, Stage.PROPOSE) == buffer(history, 1, Stage.VALIDATE) == seeds
    assert buffer(history, 1, Stage.SOLVE) == buffer(history, 2, Stage.PROPOSE) == after


def test_an_earlier_reader_sees_what_was_there_and_a_later_one_the_rest(history):
    early = history.before(Position(0, Stage.PROPOSE, 1))
    assert buffer(early, 2, Stage.PROPOSE) == {"ded": ["0.0-ded-000"]}
    assert len(buffer(history, 2, Stage.PROPOSE)["ded"]) == 4


def test_what_is_sealed_meanwhile_is_seen(history, samples):
    assert len(buffer(history, 3, Stage.PROPOSE)["ded"]) == 4
    with Ledger.open(history.root, "nano", write=True, disk=samples.quick) as ledger:
        samples.seal(ledger, {Position(2, Stage.VALIDATE): {Task: [samples.task(2, 7)]}})
    history.refresh()
    assert buffer(history, 3, Stage.PROPOSE)["ded"][-2:] == ["1-ded-001", "2-ded-007"]


def test_content_keys_name_the_first_task_that_has_them(history, samples):
    known, refused, later = (samples.task(*at).content_key for at in ((0, 0), (0, 1), (1, 0)))
    keys = {known, refused, later}
    assert first_with(history, keys, VALIDATED) == {known: parse("0.0-ded-000")}  # the refused one is no task
    assert first_with(history, keys, Position(2, Stage.PROPOSE)).keys() == {known, later}
    assert first_with(history, [], VALIDATED) == {}


def test_whole_tasks_come_by_id_in_the_order_asked(history, samples):
    wanted = [parse("1-ded-001"), parse("0.1-ind-002"), parse("1-ded-000"), parse("1-ded-001")]
    found = tasks_of(history, wanted)
    assert list(found) == wanted[:3]
    assert found[wanted[1]] == samples.task(0, 2, round=1, mode=Mode.INDUCTION)
    assert found[wanted[0]].content_key is None


def test_rows_are_kept_up_to_a_number(history, monkeypatch):
    monkeypatch.setattr(buffers, "_ROWS_KEPT", 2)
    wanted = [parse("0.0-ded-000"), parse("0.1-ded-000"), parse("1-ded-000")]
    tasks_of(history, wanted)
    for path in (history.directory / "ledger").rglob("tasks.parquet"):
        path.unlink()
    assert list(tasks_of(history, wanted[1:])) == wanted[1:]
    with pytest.raises(LedgerError, match="is not what was sealed"):
        tasks_of(history, wanted[:1])


@pytest.mark.parametrize("name", ["1-ded-000", "1-abd-000", "1-ded-002", "0.0-ded-001"])
def test_an_id_that_no_task_has_is_an_error(history, name):
    if name in ("1-ded-000", "0.0-ded-001"):
        assert text(next(iter(tasks_of(history, [parse(name)])))) == name  # a rejected one has a row too
    else:
        with pytest.raises(KeyError):
            tasks_of(history, [parse(name)])


def test_a_changed_file_is_no_buffer(history):
    path = history.directory / "ledger" / "000001" / "validate" / "tasks.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LedgerError, match="its bytes hash to"):
        valid_ids(history, VALIDATED)


places = st.builds(
    Place,
    st.integers(0, 99),
    st.integers(0, 99),
    st.sampled_from(Mode),
    st.integers(0, 2 ** BITS["slot"] - 1),
    sample=st.none(),
)


@given(places)
def test_the_ids_of_a_step_lie_between_its_first_and_the_next(place):
    step = place.iteration, place.round
    assert first_of_step(*step) <= pack(place) < first_of_step(*step, after=True)
    assert first_of_step(*step, after=True) == first_of_step(place.iteration, place.round + 1)
