"""How many orders a worker asks for, whatever its bus does with what was asked."""

import pytest

from headrace.worker.credit import Credit

SLOTS = 4


@pytest.mark.parametrize("unasked", [0, 1, SLOTS, 3 * SLOTS])
def test_orders_that_nobody_asked_for_lessen_nothing_that_is_asked_for_later(unasked: int) -> None:
    credit, at_the_bus = Credit(SLOTS), 0
    for _ in range(3):  # each time trouble came, requests stood twice and a backlog was there
        at_the_bus += credit.wanted()
        for _ in range(SLOTS + unasked):
            credit.arrived()
            at_the_bus -= 1
        assert credit.wanted() == 0, "it has its hands full"
        for _ in range(SLOTS + unasked):
            credit.settled(None)
    assert at_the_bus + credit.wanted() == SLOTS


def test_what_was_asked_for_in_vain_is_asked_for_again() -> None:
    credit = Credit(SLOTS)
    assert credit.wanted() == SLOTS
    credit.arrived()
    credit.forgotten()
    assert credit.wanted() == SLOTS - 1
