"""How often `backlane up` starts a service again that dies."""

from backlane.cli.service_group import RESTART_WINDOW_S, RESTARTS_MAX, Restarts
from backlane.clock import ManualClock


def test_the_first_restart_comes_at_once_and_each_further_one_later():
    restarts = Restarts(ManualClock())
    assert [restarts.next_delay_s() for _ in range(4)] == [0.0, 0.2, 0.4, 0.8]


def test_a_service_that_dies_again_and_again_is_given_up():
    restarts = Restarts(ManualClock())
    delays = [restarts.next_delay_s() for _ in range(RESTARTS_MAX + 1)]
    assert delays[-1] is None
    assert None not in delays[:-1]


def test_deaths_of_long_ago_do_not_count():
    clock = ManualClock()
    restarts = Restarts(clock)
    for _ in range(10 * RESTARTS_MAX):
        assert restarts.next_delay_s() == 0.0
        clock.advance(RESTART_WINDOW_S + 1)
