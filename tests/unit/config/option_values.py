"""A value for each option that is not its default, by its kind, and the file that says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ravesvc.config import declaration as kinds
from ravesvc.config import rave_yaml
from ravesvc.config.declaration import Kind, Option
from ravesvc.config.options import Config
from ravesvc.config.table import Entry
from ravesvc.config.worker_options import PROXY, Proxy

# What the file says, and what it means.
_SAMPLES: Mapping[Kind[Any], Callable[[Option], tuple[str, Any]]] = {
    kinds.TEXT: lambda _: ("sample", "sample"),
    kinds.LANGUAGE: lambda _: ("pt-BR", "pt-BR"),
    kinds.CHOICE: lambda option: (option.words[-1], option.words[-1]),
    kinds.CHOICES: lambda option: (option.words[-1], option.words[-1:]),
    kinds.URL: lambda _: ("https://s.test/", "https://s.test"),
    kinds.WHOLE_NUMBER: lambda option: (f"{option.least + 7}", option.least + 7),
    kinds.LIMIT: lambda option: (f"{option.least + 7}", option.least + 7),
    kinds.TIME_SPAN: lambda option: (f"{option.least + 7}s", option.least + 7),
    kinds.ABSOLUTE_PATH: lambda _: ("/s/sample", Path("/s/sample")),
    kinds.STATE_FILE: lambda _: ("/s/sample", Path("/s/sample")),
    kinds.OPTIONAL_PATH: lambda _: ("/s/sample", "/s/sample"),
    kinds.TEXTS: lambda _: ("[a, b]", ("a", "b")),
    kinds.HOSTS: lambda _: ("[a.test]", ("a.test",)),
    kinds.NETWORKS: lambda _: ("[10.1.0.0/16]", ("10.1.0.0/16",)),
    kinds.PORTS: lambda _: ("[8443]", (8443,)),
    kinds.USER_IDS: lambda _: ("[900000002]", (900000002,)),
    PROXY: lambda _: ("http://proxy.lan:443", Proxy(host="proxy.lan", port=443)),
}


def sample(entry: Entry) -> tuple[str, Any]:
    """A file that sets an option, and the value."""
    assert entry.option.kind
    if entry.option.kind is kinds.SWITCH:
        text, value = str(not entry.default), not entry.default
    else:
        text, value = _SAMPLES[entry.option.kind](entry.option)
    assert value != entry.default
    return document(entry, text), value


def document(entry: Entry, text: str) -> str:
    """A file that has this text at an option."""
    section, _, key = entry.name.rpartition(".")
    return f"{section}:\n  {key}: {text}" if section else f"{key}: {text}"


def good(text: str) -> Config:
    """What a file says that has no mistake."""
    found, problems = rave_yaml.read(text, "f.yaml")
    assert not problems
    assert found
    return found


def bad(text: str) -> list[str]:
    """The mistakes of a file."""
    found, problems = rave_yaml.read(text, "f.yaml")
    assert found is None
    return [str(problem) for problem in problems]
