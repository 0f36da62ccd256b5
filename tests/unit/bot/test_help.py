from __future__ import annotations

import pytest

from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import Permission
from ravesvc.bot.permissions import StaticPermissions
from tests.unit.bot_scene import ANN, BOB, Scene


def ask(scene: Scene, text: str, sender: int = ANN) -> str:
    """The whole answer, also if it takes several messages."""
    answers: list[str] = []

    async def body() -> None:
        answers.append(await scene.answer(text, sender))
        while True:
            await scene.bot.settle()
            if scene.room.silent:
                break
            answers.append((await scene.room.heard())[0])

    scene.play(body)
    return "\n".join(answers)


async def nothing(context: Context) -> None: ...


def with_quiz() -> Scene:
    """Ann is an admin; the operator wrote three commands, two of them in a group of their own."""
    scene = Scene(permissions=StaticPermissions(admins=frozenset({ANN})))
    theirs = Registry("/etc/rave/commands.d/quiz.py")
    theirs.command("quiz", "Asks.", group="Pub Quiz", usage="<topic> [number]", example="films 3", cooldown=5)(
        nothing
    )
    theirs.command("reset", "Begins anew.", group="pub quiz", permission=Permission.ADMIN)(nothing)
    theirs.command("greet", "Greets.")(nothing)
    scene.registry.include([theirs])
    return scene


def test_commands_are_listed_by_group_ours_first() -> None:
    assert ask(with_quiz(), "?help").splitlines() == [
        "Commands:",
        "• **General**: hello, help, info, meshinfo, ping, status, whoami",
        "• **Games**: dare, truth",
        "• **More**: greet",
        "• **Pub Quiz**: quiz, reset",
        "Write ?help and the name of a command or group to learn more",
        "Instead of ? you may also write !",
    ]
    assert "reset" not in ask(with_quiz(), "?help", BOB)


@pytest.mark.parametrize("name", ["games", "GAMES", "?games"])
def test_a_group_is_listed_with_what_its_commands_do(name: str) -> None:
    assert ask(Scene(), f"?help {name}").splitlines() == [
        "**Games**:",
        "• **?dare**: Gives you something to do.",
        "• **?truth**: Asks you a question.",
    ]


def test_the_name_of_a_group_may_have_several_words() -> None:
    assert ask(with_quiz(), "?help PUB  quiz").splitlines() == [
        "**Pub Quiz**:",
        "• **?quiz**: Asks.",
        "• **?reset**: Begins anew.",
    ]


def test_a_command_is_explained() -> None:
    assert ask(with_quiz(), "?help !QUIZ", BOB).splitlines() == [
        "• **?quiz**: Asks.",
        "• Usage: ?quiz <topic> [number]",
        "• Example: ?quiz films 3",
        "• For all users",
        "• You may use it every 5 s",
    ]
    assert ask(with_quiz(), "?help reset", BOB).splitlines() == ["• **?reset**: Begins anew.", "• For admins only"]


def test_who_may_run_a_command_is_what_admins_have_set() -> None:
    scene = Scene(permissions=StaticPermissions(overrides={"ping": Permission.ADMIN}))
    assert "• For admins only" in ask(scene, "?help ping")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pnig", "There is no command pnig. Did you mean ping? (error "),
        ("game", "There is no command game. Did you mean games? (error "),
        ("xyzxyz", "There is no command xyzxyz. See ?help (error "),
        ("**", "There is no command of that name. See ?help (error "),
    ],
)
def test_what_there_is_not_is_answered_with_what_is_near(name: str, said: str) -> None:
    assert ask(Scene(), f"?help {name}").startswith(said)


def test_no_answer_is_endless_and_each_message_begins_with_a_whole_line() -> None:
    scene = Scene()
    theirs = Registry("many.py")
    for number in range(100):
        theirs.command(f"!{number:031}", "x" * 200)(nothing)
    scene.registry.include([theirs])
    overview, group = ask(scene, "?help"), ask(scene, "?help more")
    assert "40 more" in overview
    assert group.endswith("and 70 more")
    for line in (*overview.splitlines(), *group.splitlines()):
        assert not line.startswith(("?", "!"))
    assert len(group) < 32 * 1000, "more would not fit into the queue of the outbox"
