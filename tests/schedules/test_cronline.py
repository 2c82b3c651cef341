from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedules.cronline import TimetableError, describe, read_line

REFUSED = [
    ("", "is empty"),
    (" \t\n", "is empty"),
    ("* * * *", "this one has 4"),
    ("* * * * * *", "this one has 6. Leave out seconds, years and commands"),
    ("* * * * * * *", "this one has 7"),
    ("0 9 * * * /usr/bin/true", "Leave out seconds, years and commands"),
    ("@reboot", "@reboot is not a time"),
    ("@every_minute", "@every_minute is not an alias. Use one of @hourly, @daily"),
    ("@daily 5", "@daily 5 is not an alias"),
    ("0 0 31 2 *", "February never has a day 31"),
    ("0 0 30,31 2 *", "February never has a day 30 or 31"),
    ("0 0 31 4,6 */2", "April and June never has a day 31"),
    ("*/0 * * * *", "*/0 in the minute field steps by 0"),
    ("0 1-5/0 * * *", "1-5/0 in the hour field steps by 0"),
    ("5-1 * * * *", "5-1 in the minute field runs backwards. Write 1-5, or 5-59,0-1"),
    ("0 0 * 11-FEB *", "11-FEB in the month field runs backwards"),
    ("0 0 * * fri-sun", "FRI-SUN in the day-of-week field runs backwards. Write 5-7"),
    ("0 0 * * sat-mon", "Write 1-6, or 6-7,0-1 to start over"),
    ("60 * * * *", "60 in the minute field is out of range. Use 0 to 59"),
    ("0 24 * * *", "24 in the hour field is out of range. Use 0 to 23"),
    ("0 0 0 * *", "0 in the day-of-month field is out of range. Use 1 to 31"),
    ("0 0 32 * *", "32 in the day-of-month field"),
    ("0 0 * 13 *", "13 in the month field is out of range. Use 1 to 12"),
    ("0 0 * 1-13 *", "13 in the month field"),
    ("0 0 * * 8", "8 in the day-of-week field is out of range. Use 0 to 7"),
    ("0,,5 * * * *", "The minute field has an empty entry"),
    (", * * * *", "The minute field has an empty entry"),
    ("0 0 L * *", "L in the day-of-month field is not something cron reads"),
    ("0 0 LW * *", "LW in the day-of-month field"),
    ("0 0 15W * *", "15W in the day-of-month field"),
    ("0 0 1-L * *", "1-L in the day-of-month field"),
    ("0 0 * * L5", "L5 in the day-of-week field"),
    ("0 0 * * 5#2", "5#2 in the day-of-week field"),
    ("0 0 ? * *", "? in the day-of-month field"),
    ("H * * * *", "H in the minute field"),
    ("R(0-5) * * * *", "R(0-5) in the minute field"),
    ("H/15 * * * *", "H/15 in the minute field"),
    ("0 0 * * MONDAY", "MONDAY in the day-of-week field is not something cron reads. Use numbers, names such as SUN"),
    ("0 0 * MON *", "MON in the month field"),
    ("-5 * * * *", "-5 in the minute field is not something"),
    ("5- * * * *", "5- in the minute field is not something"),
    ("1-2-3 * * * *", "1-2-3 in the minute field is not something"),
    ("5/ * * * *", "5/ in the minute field is not something"),
    ("**/5 * * * *", "**/5 in the minute field is not something"),
    ("*-5 * * * *", "*-5 in the minute field is not something"),
    ("1.5 * * * *", "1.5 in the minute field is not something"),
    ("0 0\u00a0* * *", r"character '\xa0' at position 4"),
    ("\u0661 * * * *", r"character '\u0661' at position 1"),
    ("0 9 * * \u212aFRI", r"character '\u212a' at position 9"),
    ("0 0 * *\n*", r"character '\n'"),
    ("0 0 \0 * *", r"character '\x00'"),
    ("1," * 96 + "10 * * * *", "characters, more than 200"),
]


@pytest.mark.parametrize(("cron", "message"), REFUSED)
def test_a_refused_line_is_refused_at_its_field_in_a_sentence(cron: str, message: str) -> None:
    with pytest.raises(TimetableError) as caught:
        read_line(cron)
    assert message in str(caught.value)
    assert caught.value.field == "cron"


@pytest.mark.parametrize(
    ("cron", "same_as"),
    [
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * SUN", "0 0 * * 0"),
        ("0 0 * * 0-7", "0 0 * * 0-6"),
        ("0 0 * * fri-7", "0 0 * * 0,5,6"),
        ("0 9 * jan-Mar Mon-FRI", "0 9 * 1-3 1-5"),
        ("0 9 * OCT,dec mon,3,FRI", "0 9 * 10,12 1,3,5"),
        ("5/15 * * * *", "5,20,35,50 * * * *"),
        ("59/15 * * * *", "59 * * * *"),
        ("0 0 * * 7/2", "0 0 * * 0"),
        ("0 0 5-5 3-3 *", "0 0 5 3 *"),
        ("007 09 * * *", "7 9 * * *"),
        ("1,1,1-2 3 * * *", "1-2 3 * * *"),
        ("  0\t9  * *   1-5 \r\n", "0 9 * * 1-5"),
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        (" @Midnight ", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_two_spellings_of_one_line_read_the_same(cron: str, same_as: str) -> None:
    assert read_line(cron) == read_line(same_as)


@pytest.mark.parametrize(
    ("position", "attribute", "low", "high"),
    [(0, "minutes", 0, 59), (1, "hours", 0, 23), (2, "days", 1, 31), (3, "months", 1, 12), (4, "weekdays", 0, 7)],
)
def test_every_range_and_step_means_what_it_means_to_cron(position: int, attribute: str, low: int, high: int) -> None:
    """croniter is the reader: this pins that no range of any field comes out otherwise than cron's plain loop."""
    for first, last in product(range(low, high + 1), repeat=2):
        if first > last:
            continue
        for step in range(1, high + 1) if high < 13 else (1, 7):
            fields = ["0", "0", "*", "*", "*"]
            fields[position] = f"{first}-{last}/{step}"
            if position == 2:
                fields[4] = "1"  # or else a month without a 31st can't have it
            numbers = {number % 7 if position == 4 else number for number in range(first, last + 1, step)}
            assert getattr(read_line(" ".join(fields)), attribute) == sum(1 << number for number in numbers)


def test_a_star_step_counts_from_the_first_number_of_the_field() -> None:
    line = read_line("*/25 */10 */10 */5 */3")
    assert (line.minutes, line.hours) == (1 << 0 | 1 << 25 | 1 << 50, 1 << 0 | 1 << 10 | 1 << 20)
    assert (line.days, line.months) == (1 << 1 | 1 << 11 | 1 << 21 | 1 << 31, 1 << 1 | 1 << 6 | 1 << 11)
    assert line.weekdays == 1 << 0 | 1 << 3 | 1 << 6


@pytest.mark.parametrize(
    ("cron", "either_day", "follows_clock"),
    [
        ("0 0 1 * 1", True, False),
        ("0 0 1-31/2 * 1", True, False),
        ("0 0 1,*/5 * 1", True, False),
        ("0 0 */2 * 1", False, False),
        ("0 0 *,5 * 1", False, False),
        ("0 0 1 * *", False, False),
        ("*/5 0 1 * *", False, True),
        ("0 */2 1 * *", False, True),
        ("0-59 0-23 1 * *", False, False),
        ("5/15 2 1 * *", False, False),
        ("@daily", False, False),
        ("@hourly", False, True),
    ],
)
def test_the_first_character_of_a_field_makes_it_a_wildcard(cron: str, either_day: bool, follows_clock: bool) -> None:
    line = read_line(cron)
    assert (line.either_day, line.follows_clock) == (either_day, follows_clock)


@pytest.mark.parametrize("cron", ["0 0 29 2 *", "0 0 29 2 */7", "0 0 31 2 1", "0 0 30,31 2,4 *", "0 0 31 */2 *"])
def test_a_rare_line_is_no_impossible_line(cron: str) -> None:
    read_line(cron)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * * *", "Every minute"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("0,15,30,45 * * * *", "Every 15 minutes"),
        ("@hourly", "Every hour"),
        ("*/90 * * * *", "Every hour"),
        ("5 * * * *", "Every hour at :05"),
        ("5/15 * * * *", "Every hour at :05, :20, :35 and :50"),
        ("*/7 * * * *", "Every hour at :00, :07, :14 … :56"),
        ("0-20 * * * *", "Every hour at :00 to :20"),
        ("0 */2 * * *", "Every 2 hours"),
        ("0 1-23/2 * * *", "Every 2 hours from 01:00 to 23:00"),
        ("0 */6 * * *", "At 00:00, 06:00, 12:00 and 18:00, every day"),
        ("0 9-17 * * *", "Every hour from 09:00 to 17:00"),
        ("*/15 9-17 * * MON-FRI", "Every 15 minutes from 09:00 to 17:45, from Monday to Friday"),
        ("* 9 * * *", "Every minute from 09:00 to 09:59"),
        ("* 9,17 * * *", "Every minute of hours 9 and 17"),
        ("1,2,3,7,9 9 * * *", "At :01, :02, :03, :07 and :09 of hour 9, every day"),
        ("*/10 8,12,18 * * 6", "At :00, :10, :20 … :50 of hours 8, 12 and 18, on Saturday"),
        ("@daily", "At 00:00, every day"),
        ("0 9 * * *", "At 09:00, every day"),
        ("30 16,9 * * *", "At 09:30 and 16:30, every day"),
        ("0 0 * * 7", "At 00:00, on Sunday"),
        ("0 0 * * sat,sun", "At 00:00, on Saturday and Sunday"),
        ("0 0 * * 5-7", "At 00:00, from Friday to Sunday"),
        ("0 0 1 * *", "At 00:00, on day 1 of the month"),
        ("0 0 1,15 * *", "At 00:00, on days 1 and 15 of the month"),
        ("0 0 1-7 * *", "At 00:00, on days 1 to 7 of the month"),
        ("0 0 29 2 *", "At 00:00, on day 29, in February"),
        ("0 0 * 5 *", "At 00:00, every day, in May"),
        ("0 0 1 */3 *", "At 00:00, on day 1, in January, April, July and October"),
        ("*/30 * * 6-8 *", "Every 30 minutes, from June to August"),
        # Either day, and both.
        ("0 0 1 * 1", "At 00:00, on day 1 of the month or on Monday"),
        ("0 0 13 * 1-5", "At 00:00, on day 13 of the month or from Monday to Friday"),
        ("0 0 29 2 1", "At 00:00, on day 29 or on Monday, in February"),
        ("0 0 */2 * 1", "At 00:00, on days 1, 3, 5 … 31 of the month if that is a Monday"),
        ("0 0 1-7 * */5", "At 00:00, on days 1 to 7 of the month if that is a Friday or Sunday"),
        # A full field that is no wildcard makes "either" true of every day, and "both" of no fewer.
        ("0 0 1 * 0-6", "At 00:00, every day"),
        ("0 0 1-31 * 1", "At 00:00, every day"),
        ("0 0 1-31 * *", "At 00:00, every day"),
    ],
)
def test_words_say_what_the_line_does(cron: str, words: str) -> None:
    assert describe(cron) == words


def test_words_for_a_refused_line_are_its_refusal() -> None:
    with pytest.raises(TimetableError, match="never has a day 31"):
        describe("0 0 31 2 *")


@given(
    st.one_of(
        st.text(),
        st.text("0123456789*/-, "),
        st.lists(st.text("0123456789*/-,lw#?hr@monjasu", min_size=1, max_size=6), min_size=5, max_size=5).map(" ".join),
    )
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_is_read_and_described_or_refused(cron: str) -> None:
    try:
        words = describe(cron)
    except TimetableError as error:
        words = str(error)
    assert words.strip()
