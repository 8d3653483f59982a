import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import ids
from storage.errors import ConfigError
from storage.ids import Mode, Place, Position, Stage
from storage.layout import order, parse_position

places = st.builds(
    Place,
    iteration=st.integers(0, 2**23 - 1),
    round=st.integers(0, 255),
    mode=st.sampled_from(Mode),
    slot=st.integers(0, 2**17 - 1),
    sample=st.none() | st.integers(0, 2**11 - 2),
)
readable = places.map(lambda place: place if place.iteration == 0 else place._replace(round=0))


@given(places)
def test_packing_and_unpacking_is_the_identity(place):
    assert ids.unpack(ids.pack(place)) == place
    assert 0 <= ids.pack(place) < 2**63


@given(readable)
def test_text_and_parse_is_the_identity(place):
    assert ids.parse(ids.text(ids.pack(place))) == ids.pack(place)


@given(places, places)
def test_packed_ids_sort_by_position(one, other):
    def key(place):
        return (*place[:2], list(Mode).index(place.mode), place.slot, -1 if place.sample is None else place.sample)

    assert (ids.pack(one) < ids.pack(other)) == (key(one) < key(other))


def test_ids_read_as_documented():
    assert ids.text(ids.pack(Place(12, 0, Mode.DEDUCTION, 31))) == "12-ded-031"
    assert ids.text(ids.pack(Place(0, 2, Mode.INDUCTION, 4))) == "0.2-ind-004"
    assert ids.text(ids.pack(Place(12, 0, Mode.ABDUCTION, 7, 3))) == "12-abd-007:3"
    assert ids.text(ids.pack(Place(1, 0, Mode.ERROR, 12345))) == "1-err-12345"


@pytest.mark.parametrize(
    "written", ["", "12", "12-foo-001", "12-ded-", "12-ded-999999", "x12-ded-001", "9999999-ded-1"]
)
def test_what_is_no_id_is_refused(written):
    with pytest.raises(ConfigError, match="is not an id"):
        ids.parse(written)


positions = st.builds(Position, st.integers(0, 9_999_999), st.sampled_from(Stage), st.just(0)) | st.builds(
    Position, st.just(0), st.sampled_from(Stage), st.integers(0, 255)
)


@given(positions)
def test_a_position_reads_back(position):
    assert parse_position(str(position)) == position


def test_positions_are_ordered_by_iteration_round_and_stage():
    expected = [
        Position(0, Stage.PROPOSE, 0),
        Position(0, Stage.VALIDATE, 0),
        Position(0, Stage.PROPOSE, 1),
        Position(1, Stage.PROPOSE),
        Position(1, Stage.VALIDATE),
        Position(1, Stage.SOLVE),
        Position(1, Stage.VERIFY),
        Position(1, Stage.UPDATE),
        Position(2, Stage.PROPOSE),
    ]
    assert sorted(set(expected), key=order) == expected
