"""What a program needs and pip installs only when it is asked for: told in a sentence, in place of a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ravesvc.errors import Code, RaveError

# The names of pyproject.toml, by the module that each is for.
EXTRAS = {"aiohttp": "simulator", "pystemd": "service"}


def insist_on(module: str) -> None:
    """Raise `RaveError` (Config) unless a module can be imported; it is not imported."""
    import importlib.util

    # None in sys.modules, or half of a package, is as good as none.
    with contextlib.suppress(ImportError, ValueError):
        if importlib.util.find_spec(module):
            return
    raise _missing(module)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise `RaveError` (Config) for a module of others that is missing inside of this."""
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
