"""Run in the machine: what the imports of a bot cost. Prints the ten dearest, largest first."""

import builtins
import sys
from pathlib import Path


def resident() -> float:
    """Resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


costs: dict[str, float] = {}
real_import = builtins.__import__


def measured(name, *args, **kwargs):  # type: ignore[no-untyped-def]
    """Import, and note what it cost if the module is new."""
    if name in sys.modules:
        return real_import(name, *args, **kwargs)
    before = resident()
    try:
        return real_import(name, *args, **kwargs)
    finally:
        costs[name] = max(costs.get(name, 0.0), resident() - before)


builtins.__import__ = measured
start = resident()
import ravesvc.mesh.__main__  # noqa: E402, F401

for module, cost in sorted(costs.items(), key=lambda item: -item[1])[:10]:
    print(f"  {cost:5.1f}  {module}")
print(f"  {resident():5.1f}  in all, of which {start:.1f} are Python itself")
