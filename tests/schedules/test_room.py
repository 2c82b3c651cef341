"""Room for another session."""

from pathlib import Path

from schedules.room import shortage


def test_there_is_room_where_enough_is_free(tmp_path: Path) -> None:
    assert shortage([tmp_path], least_bytes=1, least_inodes=1) == ""


def test_a_folder_that_is_not_there_yet_counts_for_the_one_above(tmp_path: Path) -> None:
    assert shortage([tmp_path / "not" / "yet"], least_bytes=1, least_inodes=1) == ""


def test_it_says_which_folder_is_short_of_what(tmp_path: Path) -> None:
    told = shortage([tmp_path], least_bytes=2**60, least_inodes=0)
    assert str(tmp_path) in told
    assert "MB free" in told


def test_inodes_count_as_well(tmp_path: Path) -> None:
    assert "inodes free" in shortage([tmp_path], least_bytes=0, least_inodes=2**60)
