"""When a worker has to let go of its sessions."""

from datetime import timedelta

from schedules.fencing import Fence

LEASE = timedelta(seconds=60)


def look(fence: Fence, *, since: float, until: float) -> list[float]:
    """The seconds at which it was closed, looked at each second."""
    return [float(at) for at in range(int(since), int(until)) if fence.is_closed(float(at))]


def test_it_closes_a_little_before_the_lease_ends() -> None:
    fence = Fence.of(LEASE, 0.0)
    assert look(fence, since=1, until=60)[0] == 46


def test_an_outage_of_half_a_minute_closes_nothing() -> None:
    fence = Fence.of(LEASE, 0.0)
    assert look(fence, since=1, until=36) == []
    fence.renew(36.0)
    assert look(fence, since=36, until=80) == []


def test_it_opens_again_with_the_next_renewal() -> None:
    fence = Fence.of(LEASE, 0.0)
    assert look(fence, since=1, until=50)
    fence.renew(50.0)
    assert look(fence, since=50, until=90) == []


def test_who_was_stopped_itself_may_renew_first() -> None:
    fence = Fence.of(LEASE, 0.0)
    assert look(fence, since=1, until=5) == []
    assert look(fence, since=300, until=310) == []
    fence.renew(309.0)
    assert look(fence, since=310, until=340) == []


def test_who_can_not_renew_after_that_lets_go() -> None:
    fence = Fence.of(LEASE, 0.0)
    look(fence, since=1, until=5)
    assert look(fence, since=300, until=315)[0] == 310


def test_an_answer_that_came_late_does_not_turn_the_clock_back() -> None:
    fence = Fence.of(LEASE, 0.0)
    fence.renew(40.0)
    fence.renew(10.0)
    assert fence.renewed == 40.0
