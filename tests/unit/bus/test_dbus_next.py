from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.process
def test_glib_is_not_imported_even_where_it_is_installed(tmp_path: Path) -> None:
    """Else each bot costs 3.5 MB more on Debian."""
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


@pytest.mark.process
def test_plugins_can_use_the_library_as_it_is_documented() -> None:
    script = """
import ravesvc.bus
import dbus_next
print(dbus_next.aio.MessageBus.__name__, dbus_next.service.ServiceInterface.__name__)
from dbus_next.aio import MessageBus
print(MessageBus is dbus_next.aio.MessageBus)
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout == "MessageBus ServiceInterface\nTrue\n"
