from __future__ import annotations

import pytest

from ravesvc.common.signal import Signal


def test_handlers_are_called_in_the_order_of_connection() -> None:
    said: list[tuple[str, int]] = []
    numbers = Signal[int]("numbers")
    numbers.connect(lambda number: said.append(("first", number)))
    numbers.connect(lambda number: said.append(("second", number)))
    numbers.emit(3)
    numbers.emit(4)
    assert said == [("first", 3), ("second", 3), ("first", 4), ("second", 4)]


def test_a_signal_without_handlers_is_emitted_all_the_same() -> None:
    Signal[int]("numbers").emit(3)


def test_a_handler_that_fails_keeps_no_other_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    said: list[int] = []

    def fail(number: int) -> None:
        raise ZeroDivisionError

    numbers = Signal[int]("numbers")
    numbers.connect(fail)
    numbers.connect(said.append)
    numbers.emit(3)
    assert said == [3]
    (record,) = caplog.records
    assert record.getMessage() == "A handler of numbers failed"
    assert record.exc_info
