"""What authors of commands write, and what they are told when it makes no sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ravesvc import commands
from ravesvc.bot.command import Command, Registry
from ravesvc.bot.event import EventKind
from ravesvc.bot.limits import Cooldown
from ravesvc.commands import Context, Event, Permission, command, registering
from ravesvc.errors import Code, RaveError


async def nothing(argument: Any) -> None: ...


def registered(*arguments: Any, **options: Any) -> Command:
    registry = Registry("greet.py")
    with registering(registry):
        command(*arguments, **options)(nothing)
    (only,) = registry.commands()
    return only


def test_a_command_has_what_was_declared() -> None:
    made = registered("greet", "Greets.", permission=Permission.ADMIN, cooldown=30, seconds=5)
    assert (made.name, made.description, made.permission) == ("greet", "Greets.", Permission.ADMIN)
    assert (made.cooldown, made.seconds, made.source) == (Cooldown(30), 5.0, "greet.py")
    assert made.title == "greet of greet.py"


def test_a_command_needs_no_more_than_a_name_and_a_description() -> None:
    made = registered("greet", "Greets.")
    assert (made.permission, made.cooldown, made.seconds) == (Permission.USER, Cooldown(), None)


def test_words_will_do_for_a_permission() -> None:
    assert registered("greet", "Greets.", permission="admin").permission is Permission.ADMIN


def test_handlers_stay_what_they_were() -> None:
    assert command("greet", "Greets.")(nothing) is nothing
    assert commands.on_message(nothing) is nothing


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        ((nothing, ""), {}, 'write @command\\("name"'),
        (("greet", ""), {}, "needs a description"),
        (("greet", " "), {}, "needs a description"),
        (("greet", None), {}, "needs a description"),
        (("greet", "two\nlines"), {}, "on one line"),
        (("greet", "x" * 201), {}, "longer than 200"),
        (("greet", "x"), {"permission": "everybody"}, "neither USER nor ADMIN"),
        (("greet", "x"), {"cooldown": -1}, "cooldown of greet"),
        (("greet", "x"), {"cooldown": "30s"}, "cooldown of greet"),
        (("greet", "x"), {"cooldown": float("nan")}, "cooldown of greet"),
        (("greet", "x"), {"cooldown": 86_401}, "cooldown of greet"),
        (("greet", "x"), {"seconds": 0}, "time of greet"),
        (("greet", "x"), {"seconds": "5"}, "time of greet"),
        (("greet", "x"), {"group": "x" * 33}, "the group of greet .* at most 32"),
        (("greet", "x"), {"usage": "a\nb"}, "the usage of greet"),
        (("greet", "x"), {"example": 5}, "the example of greet"),
        (("three words now", "x"), {}, "can't be the name"),
        (("greet", "x"), {"aliases": "hi"}, "the aliases of greet"),
        (("greet", "x"), {"aliases": ["h i i"]}, "can't be the name"),
        (("setperm", "x"), {}, "for admins only"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    arguments: tuple[Any, ...], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(RaveError, match=told) as caught:
        registered(*arguments, **options)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_name_that_is_taken_is_refused() -> None:
    taken = Registry("greet.py", {"ping": "the bot itself"})
    with pytest.raises(RaveError, match="already: it belongs to the bot itself"), registering(taken):
        command("ping", "Answers.")(nothing)


@pytest.mark.parametrize("decorate", [command("greet", "Greets."), commands.on_connected])
def test_a_handler_that_is_no_coroutine_is_refused(decorate: Callable[[Any], Any]) -> None:
    def plain(context: Context) -> None: ...

    with pytest.raises(RaveError, match="write async def plain"):
        decorate(plain)
    with pytest.raises(RaveError, match="the handler is no coroutine"):
        decorate(5)


@pytest.mark.parametrize("decorator", [commands.on_message, commands.every(60), commands.on_error])
def test_a_handler_that_does_not_take_what_it_gets_is_refused(decorator: Any) -> None:
    async def takes_nothing() -> None: ...

    with pytest.raises(RaveError, match=r"write async def takes_nothing\("), registering(Registry()):
        decorator(takes_nothing)


@pytest.mark.parametrize(
    ("decorator", "told"), [(commands.command, r'@command\("name", "What it does."\)'), (commands.every, "@every")]
)
def test_a_decorator_without_its_arguments_says_how_to_write_it(decorator: Any, told: str) -> None:
    with pytest.raises(RaveError, match=f"^write {told}"):
        decorator(nothing)


@pytest.mark.parametrize("span", [0, 0.5, "500ms", "2d", "soon", None, float("nan")])
def test_a_timer_needs_a_time(span: Any) -> None:
    with pytest.raises(RaveError, match="is no time from 1s to 1d, such as 10m"):
        commands.every(span)


@pytest.mark.parametrize("kind", sorted(set(EventKind) - {EventKind.TIMER}))
def test_there_is_a_decorator_for_each_event(kind: EventKind) -> None:
    registry = Registry()
    with registering(registry):
        getattr(commands, kind)(nothing)
    assert len(registry.handlers(kind)) == 1
    assert kind in commands.__all__


def test_outside_of_a_bot_nothing_is_kept() -> None:
    registry = Registry()
    with registering(registry):
        pass
    command("greet", "Greets.")(nothing)
    assert registry.commands() == []
    assert Event.__doc__
