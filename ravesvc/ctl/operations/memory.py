"""The memory of the bots, as the kernel counts it for their units (systemd's MemoryCurrent=).

systemctl show would ask systemd for every property of every unit: a quarter of a second for a hundred of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ravesvc import names

_ROOT = Path("/sys/fs/cgroup")


def used(root: Path = _ROOT) -> dict[str, int]:
    """Bytes by mesh id; a mesh whose memory the kernel does not count is left out."""
    found = {}
    for directory in _units(root):
        if mesh := names.mesh_of_unit(directory.name):
            try:
                found[mesh] = int((directory / "memory.current").read_text())
            except (OSError, ValueError):
                # The unit has just ended, or memory is not accounted on this machine.
                continue
    return found


def _units(slice_: Path) -> Iterator[Path]:
    """The control groups of the services in a slice and in those below it: an operator may move them."""
    try:
        below = list(slice_.iterdir())
    except OSError:
        return
    for directory in below:
        if directory.suffix == ".slice":
            yield from _units(directory)
        elif directory.suffix == ".service":
            yield directory
