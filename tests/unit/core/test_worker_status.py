"""How the answer of a bot is read, which may be of an older version or have been taken over."""

from __future__ import annotations

from typing import Any

import pytest

from ravesvc.config.worker_settings import Edition
from ravesvc.core.worker_status import WorkerStatus, counted, read_status


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"Attempts": "2", "ConnectedUSec": "10", "Version": 1, "SettingsDigest": None, "CommandErrors": "wrong"},
        {"Attempts": None, "ConnectedUSec": -1, "Version": ["1.2.3"], "SettingsDigest": 0, "CommandErrors": None},
    ],
)
def test_what_is_missing_or_of_another_type_is_the_default(nonsense: dict[str, Any]) -> None:
    assert read_status(nonsense) == WorkerStatus(edition=Edition("", ""))


@pytest.mark.parametrize("number", [2**64 - 1, 2**32, -1, True, 1.5])
def test_a_number_that_cannot_be_is_none(number: object) -> None:
    assert counted(number) == 0


@pytest.mark.parametrize("value", [1, "yes", [True], None])
def test_only_true_is_true(value: object) -> None:
    status = read_status({"Connected": value, "Debug": value})
    assert (status.connected, status.debug) == (False, False)
    assert read_status({"Debug": True}).debug


def test_an_edition_is_cut_and_printable() -> None:
    status = read_status({"Version": "1" * 100 + "\n", "SettingsDigest": "\n" * 100})
    assert status.edition == Edition("1" * 40, "?" * 64)
