from __future__ import annotations

import pytest

from ravesvc.bot.command import Command, Context, Registry
from ravesvc.bot.command_names import ADMIN_COMMANDS, CLAIM, Permission
from ravesvc.bot.event import Event, EventKind
from ravesvc.bot.limits import Cooldown
from ravesvc.errors import Code, RaveError


async def nothing(context: Context) -> None: ...


async def on_event(event: Event) -> None: ...


def command(name: str, permission: Permission = Permission.USER) -> Command:
    return Command(name=name, description="", handler=nothing, permission=permission)


def test_registering_again_replaces_and_listing_is_by_name() -> None:
    registry = Registry()
    registry.command("b", "First.")(nothing)
    registry.command("a", "A.")(nothing)
    assert registry.command("b", "Second.", permission=Permission.ADMIN, seconds=900.0)(nothing) is nothing
    assert [(c.name, c.description, c.permission, c.seconds) for c in registry.commands()] == [
        ("a", "A.", Permission.USER, None),
        ("b", "Second.", Permission.ADMIN, 900.0),
    ]
    assert registry.get("a") == command("a") or registry.get("a") is not None
    assert registry.get("c") is None


@pytest.mark.parametrize("name", ["", "three words now", "x" * 33, "ﷺﷺ", "\u200b", "a\x07"])
def test_a_name_that_nobody_could_type_is_refused(name: str) -> None:
    with pytest.raises(RaveError) as caught:
        Registry().command(name, "")
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_names_need_not_be_english() -> None:
    registry = Registry()
    registry.command("привет", "")(nothing)
    assert registry.get("привет")


def test_a_fixed_command_must_be_for_admins() -> None:
    for name in ADMIN_COMMANDS:
        with pytest.raises(RaveError, match="for admins only"):
            Registry().command(name, "")
        Registry().command(name, "", permission=Permission.ADMIN)


def test_claiming_is_for_everybody() -> None:
    with pytest.raises(RaveError, match="for all users"):
        Registry().command(CLAIM, "", permission=Permission.ADMIN)


def test_handlers_keep_their_order() -> None:
    registry = Registry()

    async def first(event: Event) -> None: ...

    async def second(event: Event) -> None: ...

    assert registry.handlers(EventKind.MESSAGE) == ()
    registry.on(EventKind.MESSAGE)(first)
    assert registry.on(EventKind.MESSAGE)(second) is second
    assert registry.handlers(EventKind.MESSAGE) == (first, second)
    assert registry.handlers(EventKind.KICKED) == ()


def test_what_is_included_counts_less_than_what_is_registered() -> None:
    registry, first, second = Registry(), Registry("a.py"), Registry("b.py")
    for each in registry, first, second:
        each.on(EventKind.MESSAGE)(on_event)
    registry.command("ping", "Ours.")(nothing)
    first.command("ping", "Theirs.")(nothing)
    first.command("greet", "First.", cooldown=5.0)(nothing)
    second.command("greet", "Second.")(nothing)
    second.command("hail", "Hails.")(nothing)
    registry.include([first, second])
    assert [(c.title, c.description) for c in registry.commands()] == [
        ("greet of a.py", "First."),
        ("hail of b.py", "Hails."),
        ("ping", "Ours."),
    ]
    greet = registry.get("greet")
    assert greet
    assert (greet.source, greet.cooldown) == ("a.py", Cooldown(5.0))
    assert registry.parts == (registry, first, second)
    assert registry.handlers(EventKind.MESSAGE) == (on_event,)
    registry.include([])
    assert registry.get("greet") is None


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(
        RaveError, match=r"a command ping already: it belongs to the bot itself \(take another name\)"
    ):
        Registry("a.py", {"ping": "the bot itself"}).command("ping", "Theirs.")
