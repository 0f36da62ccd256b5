"""The programs that write the XML of our D-Bus interfaces, and the manual page that is made of it, as modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

_PACKAGING = Path(__file__).parents[2] / "packaging"


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{file.parent.name}_{file.stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


writer = _module(_PACKAGING / "dbus/introspection.py")
manual = _module(_PACKAGING / "man/interfaces.py")
