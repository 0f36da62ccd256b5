from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.bot.backend import EntryPoint
from ravesvc.core import command_packages


def install(directory: Path, name: str, version: str, *entries: str) -> None:
    """What an installation leaves behind."""
    info = directory / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{names.COMMANDS_GROUP}]", *entries, ""]))


def test_what_is_installed_is_found_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert command_packages.find() == []
    install(tmp_path, "songs", "2.0", "sing = songs.commands", "x = a\x1bb")
    install(tmp_path, "greetings", "1.0", "greet = greetings.commands")
    assert command_packages.find() == [
        EntryPoint("x", "a?b", "2.0"),
        EntryPoint("greet", "greetings.commands", "1.0"),
        EntryPoint("sing", "songs.commands", "2.0"),
    ]


def test_one_of_no_package_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    lone = importlib.metadata.EntryPoint("greet", "greetings", names.COMMANDS_GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [lone])
    assert command_packages.find() == [EntryPoint("greet", "greetings", "")]


def test_what_makes_no_sense_stops_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(**_: Any) -> None:
        raise ValueError("no metadata")

    monkeypatch.setattr(importlib.metadata, "entry_points", fail)
    assert command_packages.find() == []
    assert "no metadata" in caplog.text
