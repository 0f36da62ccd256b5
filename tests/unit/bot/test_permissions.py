from __future__ import annotations

from typing import TYPE_CHECKING

from ravesvc.bot.command import Command, Context
from ravesvc.bot.command_names import ADMIN_COMMANDS, CLAIM, Permission
from ravesvc.bot.permissions import StaticPermissions

if TYPE_CHECKING:
    from ravesvc.bot.permissions import Permissions

ADMIN, USER = 1, 2


async def nothing(context: Context) -> None: ...


def command(name: str, permission: Permission = Permission.USER) -> Command:
    return Command(name=name, description="", handler=nothing, permission=permission)


def test_the_store_cannot_keep_users_from_claiming() -> None:
    permissions = StaticPermissions(frozenset(), {CLAIM: Permission.ADMIN})
    assert permissions.allows(command(CLAIM), USER)


def test_without_a_store_admin_commands_are_refused_and_all_others_run() -> None:
    permissions = StaticPermissions()
    for name in ADMIN_COMMANDS | {"leave"}:
        assert not permissions.allows(command(name, Permission.ADMIN), ADMIN)
    assert permissions.allows(command("ping"), USER)
    assert permissions.allows(command("ping"), None)


def test_admins_may_run_everything_and_a_sender_without_id_is_no_admin() -> None:
    permissions = StaticPermissions(admins=frozenset({ADMIN}))
    leave = command("leave", Permission.ADMIN)
    assert permissions.allows(leave, ADMIN)
    assert not permissions.allows(leave, USER)
    assert not permissions.allows(leave, None)


def test_overrides_change_what_a_command_needs_but_not_a_fixed_one() -> None:
    permissions = StaticPermissions(
        frozenset({ADMIN}),
        {"leave": Permission.USER, "ping": Permission.ADMIN, "setperm": Permission.USER},
    )
    assert permissions.allows(command("leave", Permission.ADMIN), USER)
    assert not permissions.allows(command("ping"), USER)
    assert permissions.allows(command("ping"), ADMIN)
    assert not permissions.allows(command("setperm", Permission.ADMIN), USER)


def test_permissions_tell_what_each_command_needs_and_what_was_configured() -> None:
    overrides = {"leave": Permission.USER, "setperm": Permission.USER, "gone": Permission.ADMIN}
    permissions: Permissions = StaticPermissions(frozenset({ADMIN}), overrides)
    assert permissions.admins == {ADMIN}
    assert permissions.overrides == overrides
    assert permissions.needed(command("leave", Permission.ADMIN)) is Permission.USER
    assert permissions.needed(command("setperm", Permission.ADMIN)) is Permission.ADMIN
    assert permissions.needed(command("ping")) is Permission.USER
    nothing_heard: Permissions = StaticPermissions()
    assert (nothing_heard.admins, nothing_heard.overrides) == (frozenset(), {})
