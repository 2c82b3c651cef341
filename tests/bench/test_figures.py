"""What many measurements come to."""

import pytest

from bench.figures import spread, spreads


def test_a_spread_tells_the_smallest_the_middle_the_99th_percentile_and_the_largest() -> None:
    assert spread([float(n) for n in range(101)]) == {"n": 101, "min": 0.0, "p50": 50.0, "p99": 99.0, "max": 100.0}


def test_it_is_in_tenths() -> None:
    assert spread([1.04, 1.04]) == {"n": 2, "min": 1.0, "p50": 1.0, "p99": 1.0, "max": 1.0}


def test_one_value_is_no_spread() -> None:
    with pytest.raises(ValueError, match="at least two"):
        spread([1.0])


def test_rows_give_a_spread_for_each_name() -> None:
    found = spreads([{"claimed": 1.0, "started": 5.0}, {"claimed": 3.0, "started": 5.0}])
    assert {name: figures["p50"] for name, figures in found.items()} == {"claimed": 2.0, "started": 5.0}
