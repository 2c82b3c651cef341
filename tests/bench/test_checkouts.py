"""bench/checkouts.py runs, and says what it promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_measures_new_and_kept_checkouts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "checkouts.py", "--quick", "--folder", tmp_path],
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        timeout=280,
    )
    report = json.loads(done.stdout)
    assert set(report) == {"machine", "1000", "20000"}
    for figures in (report["1000"], report["20000"]):
        assert figures["cold"]["prepare"]["p50"] > 0
        if figures["warm"] is not None:
            assert figures["at_once"]["warm_renewed"] == figures["at_once"]["sessions"]
    assert list(tmp_path.iterdir()) == []
