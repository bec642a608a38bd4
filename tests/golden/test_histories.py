"""What was recorded once folds to the same state and rows for ever, and together the histories tell of every room."""

import pytest

from headrace import codec
from headrace.events.registry import BY_NAME
from headrace.vocabulary import LOG_PARTITIONS
from tests.golden import histories
from tests.golden.histories import folded, names, read, state_file

each_history = pytest.mark.parametrize("name", names())


@each_history
def test_a_recorded_history_folds_to_the_recorded_state_and_rows(name: str) -> None:
    assert folded(read(name)) == state_file(name).read_text(), (
        "run `python -m tests.golden.record`, and look at the diff"
    )


@each_history
def test_every_beginning_of_a_history_can_be_kept_and_brought_back(name: str) -> None:
    history = read(name)
    for length in range(1, len(history.events) + 1):
        room, state = histories.fold(histories.History(history.about, history.events[:length]))
        kept = room.snapshot(state)
        again = room.restore(kept)
        assert room.snapshot(again) == kept
        assert list(room.rows(again, None)) == list(room.rows(state, None))


@each_history
def test_recorded_events_are_still_written_with_the_same_bytes(name: str) -> None:
    for happened in read(name).events:
        if happened.schema == BY_NAME[happened.type].SCHEMA:
            assert codec.encode(happened.event()) == bytes(happened.data)


def test_histories_tell_of_every_log_and_no_state_is_left_alone() -> None:
    assert {read(name).about.log for name in names()} == set(LOG_PARTITIONS)
    assert {file.name.removesuffix(".state.json") for file in histories.HISTORIES.glob("*.state.json")} == set(names())
