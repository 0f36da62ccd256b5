"""The helper process by itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from ravesvc.systemd.unit_helper import serve

pytestmark = pytest.mark.process


def test_serve_speaks_lines(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where nothing is on the bus that could answer."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    answers = io.StringIO()
    serve(io.StringIO('{"id": 5, "verb": "reset-failed", "unit": "x.service"}\n'), answers)
    (answer,) = map(json.loads, answers.getvalue().splitlines())
    assert (answer["id"], answer["error"]) == (5, "DBusServiceUnknownError")


def test_a_helper_whose_parent_is_gone_ends_without_a_word() -> None:
    request = '{"id": 1, "verb": "start", "unit": "rave-mesh@x.service"}\n'
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "ravesvc.systemd.unit_helper"],
            env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"},
            input=request,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_it_imports_no_event_loop() -> None:
    """It runs beside the service for as long as that does."""
    code = "import sys, ravesvc.systemd.unit_helper; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
