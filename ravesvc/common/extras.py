"""Optional dependencies: a sentence in place of a traceback for a package that pip installs only on request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ravesvc.errors import Code, RaveError

# The names of pyproject.toml, by the module that each is for.
EXTRAS = {"aiohttp": "simulator", "pystemd": "service"}


def require_module(module: str) -> None:
    """Raise `RaveError` (Config) unless a module can be imported; it is not imported."""
    import importlib.util

    # ValueError: the module is None in sys.modules, or only half of its package is there.
    with contextlib.suppress(ImportError, ValueError):
        if importlib.util.find_spec(module):
            return
    raise _missing(module)


@contextlib.contextmanager
def explain_missing() -> Iterator[None]:
    """Raise `RaveError` (Config) in place of an ImportError for a module that is not ours."""
    try:
        yield
    except ImportError as e:
        module = (e.name or "").partition(".")[0]
        if module in ("", "ravesvc"):
            raise
        raise _missing(module) from e


def _missing(module: str) -> RaveError:
    extra = EXTRAS.get(module)
    package = f"ravesvc[{extra}]" if extra else "ravesvc"
    return RaveError(Code.CONFIG, f"the Python package {module} is missing", hint=f"pip install '{package}'")
