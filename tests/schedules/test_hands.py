"""What is wanted of the sessions in hand."""

from schedules.hands import Hands


def test_a_session_is_taken_once_until_it_is_let_go() -> None:
    hands = Hands()
    assert hands.take(1)
    assert not hands.take(1)
    hands.let_go(1)
    assert 1 not in hands
    assert hands.take(1)


def test_of_whom_it_does_not_have_nothing_is_wanted() -> None:
    hands = Hands()
    assert not hands.cancel(1)
    hands.give_away([1])
    assert hands.lose_all() == []
    assert hands.wish_for(1) == ""


def test_a_lost_lease_counts_for_more_than_a_cancel_and_a_session_that_is_gone_for_more_than_both() -> None:
    hands = Hands()
    for session_id in (1, 2, 3):
        hands.take(session_id)
    assert hands.cancel(1)
    hands.give_away([2, 4])
    assert sorted(hands.lose_all()) == [1, 3]
    assert hands.lose_all() == []
    assert hands.cancel(3)
    assert [hands.wish_for(session_id) for session_id in (1, 2, 3)] == ["lost", "taken", "lost"]
    hands.give_away([1])
    assert hands.wish_for(1) == "taken"
