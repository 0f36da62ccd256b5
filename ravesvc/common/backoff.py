"""How long to wait before trying again. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def delays(first: float, most: float, rng: Callable[[], float]) -> Iterator[float]:
    """Seconds to wait, without end: doubling from `first` up to `most`, each drawn from the upper half of its range.

    The jitter keeps many clients that failed together from coming back together. `rng` returns numbers in [0, 1).
    """
    ceiling = first
    while True:
        yield min(ceiling, most) * (1 + rng()) / 2
        ceiling = min(2 * ceiling, most)
