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
        [sys.executable, ROOT / "bench" / "checkouts.py", "--quick", "--files", "500", "2500", "--folder", tmp_path],
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        timeout=280,
    )
    found = json.loads(done.stdout)["checkouts"]
    assert set(found) == {"500", "2500"}
    for figures in found.values():
        assert figures["plain_git"]["clone"]["p50"] > 0
        assert figures["cold"]["prepare"]["p50"] > 0
        if figures["warm"] is not None:
            assert figures["at_once"]["warm_renewed"] == figures["at_once"]["sessions"]
    assert list(tmp_path.iterdir()) == []
