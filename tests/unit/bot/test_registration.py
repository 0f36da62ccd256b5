from __future__ import annotations

import contextlib

from ravesvc.bot.command import Registry
from ravesvc.bot.registration import current_registry, registering


def test_the_innermost_registry_is_current_until_its_block_ends() -> None:
    outer, inner = Registry(), Registry()
    with registering(outer):
        with contextlib.suppress(ZeroDivisionError), registering(inner):
            assert current_registry() is inner
            raise ZeroDivisionError
        assert current_registry() is outer


def test_outside_of_any_block_each_is_a_new_one() -> None:
    registry = Registry()
    with registering(registry):
        pass
    assert current_registry() not in (registry, current_registry())
