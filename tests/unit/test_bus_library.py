from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ravesvc.bus import library


def test_glib_is_not_imported_even_where_it_is_installed(tmp_path: Path) -> None:
    """Else each child costs 3.5 MB more on Debian."""
    (tmp_path / "gi").mkdir()
    (tmp_path / "gi" / "__init__.py").write_text("print('imported')\n")
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import ravesvc.bus
assert "gi" not in sys.modules
import gi
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout == "imported\n", "once, by those who ask for it afterwards"


def test_who_has_glib_already_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gi = object()
    monkeypatch.setitem(sys.modules, "gi", gi)
    again = runpy.run_path(library.__file__)
    assert again["dbus_next"] is library.dbus_next
    assert sys.modules["gi"] is gi
