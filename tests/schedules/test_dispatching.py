"""What was admitted goes to the slots of this process that ask for it, and else to the broker."""

import threading

import pytest

from schedules.dispatching import Dispatcher, Slot


class House:
    """Sessions that wait, places that are free, and what the broker was given."""

    def __init__(self, waiting: int) -> None:
        self.waiting = list(range(1, waiting + 1))
        self.places = 0
        self.published: list[int] = []
        self.admissions = 0
        self.fails = False
        self.dispatcher = Dispatcher(admit=self.admit, publish=self.publish)

    def admit(self) -> list[int]:
        self.admissions += 1
        if self.fails:
            raise ConnectionError("the database is away")
        admitted, self.waiting = self.waiting[: self.places], self.waiting[self.places :]
        self.places -= len(admitted)
        return admitted

    def publish(self, ids: list[int]) -> int:
        self.published += ids
        return len(ids)


@pytest.fixture
def house() -> House:
    return House(waiting=10)


def test_without_a_slot_that_asks_everything_goes_to_the_broker(house: House) -> None:
    house.places = 3
    assert house.dispatcher.dispatch() == 3
    assert house.published == [1, 2, 3]


def test_a_slot_that_asks_gets_the_first_and_the_broker_the_others(house: House) -> None:
    house.places = 3
    assert Slot(house.dispatcher).take() == 1
    assert house.published == [2, 3]


def test_where_nothing_may_start_a_slot_gets_nothing(house: House) -> None:
    assert Slot(house.dispatcher).take() is None
    assert house.published == []


def test_what_others_admit_is_kept_for_a_slot_that_is_about_to_ask(house: House) -> None:
    slot = Slot(house.dispatcher)
    slot.expect()
    house.places = 1
    assert house.dispatcher.dispatch() == 1
    assert house.published == []
    assert slot.take() == 1


def test_a_slot_that_asks_no_more_leaves_to_the_broker_what_was_kept_for_it(house: House) -> None:
    slot = Slot(house.dispatcher)
    slot.expect()
    slot.expect()
    house.places = 1
    house.dispatcher.dispatch()
    slot.leave()
    assert house.published == [1]
    house.places = 1
    house.dispatcher.dispatch()
    assert house.published == [1, 2]


def test_who_finds_the_turn_taken_is_seen_to_by_whoever_has_it(house: House) -> None:
    at_it, go_on = threading.Event(), threading.Event()
    admit = house.dispatcher._admit

    def slowly() -> list[int]:
        at_it.set()
        assert go_on.wait(timeout=30)
        return admit()

    house.dispatcher._admit = slowly
    first = threading.Thread(target=house.dispatcher.dispatch)
    first.start()
    assert at_it.wait(timeout=30)
    assert house.dispatcher.dispatch() == 0
    go_on.set()
    first.join(timeout=30)
    assert house.admissions == 2


def test_a_failed_admission_does_not_keep_the_next_one_from_its_turn(house: House) -> None:
    house.fails = True
    with pytest.raises(ConnectionError):
        Slot(house.dispatcher).take()
    house.fails, house.places = False, 1
    assert house.dispatcher.dispatch() == 1
    assert house.published == [1], "no slot is counted any more"


def test_what_a_slot_was_given_is_not_lost_with_a_look_that_fails(house: House) -> None:
    admit = house.dispatcher._admit

    def others_want_it_too_and_then_the_database_is_away() -> list[int]:
        house.dispatcher._wanted.set()
        house.fails, found = True, admit()
        return found

    house.places = 1
    house.dispatcher._admit = others_want_it_too_and_then_the_database_is_away
    slot = Slot(house.dispatcher)
    with pytest.raises(ConnectionError):
        slot.take()
    house.dispatcher._admit, house.fails = admit, False
    slot.leave()
    assert house.published == [1]


def test_many_slots_that_ask_at_once_get_each_one_and_nobody_twice(house: House) -> None:
    house.waiting, house.places = list(range(400)), 400
    taken: list[int] = []
    admit = house.dispatcher._admit

    def one_or_two() -> list[int]:
        house.places = 1 + house.admissions % 2
        return admit()

    house.dispatcher._admit = one_or_two

    def work() -> None:
        slot = Slot(house.dispatcher)
        slot.expect()
        while (found := slot.take()) is not None:
            taken.append(found)
            slot.expect()
        slot.leave()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    everything = [*taken, *house.published]
    assert sorted(everything) == list(range(400))
    assert not house.dispatcher._ready
    assert house.dispatcher._slots == 0
