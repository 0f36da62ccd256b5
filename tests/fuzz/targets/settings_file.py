"""The settings of a bot, as its unit hands them over."""

from __future__ import annotations

import dataclasses

from ravesvc.config.worker_settings import MeshSettings
from tests.fuzz.rules import all_values, is_finite


def check(data: bytes) -> None:
    """What is accepted has finite numbers alone, and is the same when read again."""
    settings = MeshSettings.from_json(data.decode(errors="surrogateescape"))
    for value in all_values(dataclasses.astuple(settings)):
        assert is_finite(value)
    assert MeshSettings.from_json(settings.to_json()) == settings
