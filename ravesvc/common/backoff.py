"""How long to wait before trying again. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def delays(first_s: float, max_s: float, rng: Callable[[], float]) -> Iterator[float]:
    """Seconds to wait, without end: doubling from `first_s` to `max_s`, each drawn from the upper half of its range.

    The jitter keeps many clients that failed together from coming back together. `rng` returns numbers in [0, 1).
    """
    ceiling = first_s
    while True:
        yield min(ceiling, max_s) * (1 + rng()) / 2
        ceiling = min(2 * ceiling, max_s)
