from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.process
def test_the_library_still_has_each_fault_that_the_readme_lists() -> None:
    """When one is gone, what we do about it may go too."""
    run = subprocess.run(
        [sys.executable, ROOT / "tests/dbus_next_faults.py"], check=True, capture_output=True, text=True, timeout=60
    )
    seen = [line.partition(":")[0] for line in run.stdout.splitlines()]
    listed = re.findall(r"^\| `(\w+)`", (ROOT / "ravesvc/bus/README.md").read_text(), re.MULTILINE)
    assert seen == listed
