from __future__ import annotations

import logging
import time

import pytest

from ravesvc import names
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement, PolkitAction
from ravesvc.store.chat_change import ChatUser
from ravesvc.store.model import Admin, CommandPermission, Contents
from tests.unit.bus_fakes import connected
from tests.unit.fake_store import DOWN, admin, permission
from tests.unit.fake_systemd import MESH
from tests.unit.operator_site import ANN, BOB, WHEN, WHEN_US, Run, Site, site_on


def test_ignored_users(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(Admin(user_id=ANN, added_by=ANN, added_at=WHEN),))
            await site.state.refresh()
            site.told.clear()
            assert await site.ask("ListIgnoredUsers") == [[]]
            assert await site.ask("IgnoreUser", "t", BOB) == [True]
            assert await site.ask("IgnoreUser", "t", BOB) == [False]
            ((shown,),) = await site.ask("ListIgnoredUsers")
            assert shown[:2] == [BOB, 0]
            assert (await site.refused("IgnoreUser", "t", ANN)).code is Code.INVALID_ARGUMENT
            assert (await site.refused("IgnoreUser", "t", 0)).code is Code.INVALID_ARGUMENT
            assert await site.ask("UnignoreUser", "t", BOB) == [True]
            assert await site.ask("UnignoreUser", "t", BOB) == [False]
            assert site.told == [Announcement.IGNORED] * 2

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("dbus.permissions")]
    assert said == [f"An operator has had user {BOB} ignored", f"An operator has user {BOB} no longer ignored"]


def test_an_operator_undoes_what_was_changed_from_a_room(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(Admin(user_id=ANN, added_by=ANN, added_at=WHEN),))
            await site.state.refresh()
            assert await site.ask("ListChatChanges") == [[]]
            await site.state.add_admin(BOB, ANN, actor=ChatUser(ANN, MESH))
            await site.state.set_permission("ping", True, "", ANN, actor=ChatUser(ANN, MESH))
            site.told.clear()
            ((first, second),) = await site.ask("ListChatChanges")
            assert first[0] == 1
            assert abs(first[1] / 1_000_000 - time.time()) < 60
            assert first[2:] == [MESH, ANN, f"made user {BOB} an admin", False]
            assert await site.ask("UndoChatChange", "t", 1) == [True]
            assert await site.ask("UndoChatChange", "t", 1) == [False]
            assert site.state.admins == {ANN}
            assert site.told == [Announcement.ADMINS], "bots know at once"
            assert [each[5] for each in (await site.ask("ListChatChanges"))[0]] == [True, False]
            await site.ask("SetPermission", "sb", "ping", False)
            assert (await site.refused("UndoChatChange", "t", second[0])).code is Code.CONFLICT
            assert (await site.refused("UndoChatChange", "t", 3)).code is Code.INVALID_ARGUMENT

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("dbus.permissions")]
    assert said[0] == "An operator has undone change 1, which was made from a room"


def test_admins(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.told.clear()
            former = Admin(user_id=100, added_by=0, added_at=WHEN, active=False)
            site.store.contents = Contents(admins=(former, Admin(user_id=ANN, added_by=ANN, added_at=WHEN)))
            await site.state.refresh()
            assert await site.ask("ListAdmins") == [[[ANN, ANN, WHEN_US]]]
            assert await site.ask("AddAdmin", "t", BOB) == [True]
            assert await site.ask("AddAdmin", "t", BOB) == [False]
            assert site.told == [Announcement.ADMINS] * 2
            (added,) = [each for each in site.store.contents.admins if each.user_id == BOB]
            assert added.added_by == BOB, "nobody else has"
            assert await site.ask("RemoveAdmin", "t", ANN) == [True]
            assert await site.ask("RemoveAdmin", "t", ANN) == [False]
            assert (await site.refused("RemoveAdmin", "t", BOB)).code is Code.LAST_ADMIN
            assert (await site.refused("AddAdmin", "t", 0)).code is Code.INVALID_ARGUMENT
            assert (await site.refused("RemoveAdmin", "t", 0)).code is Code.INVALID_ARGUMENT
            ((shown,),) = await site.ask("ListAdmins")
            assert shown[:2] == [BOB, BOB]
            assert set(site.rights) == {
                ("ListAdmins", PolkitAction.READ),
                ("AddAdmin", PolkitAction.ADMINS),
                ("RemoveAdmin", PolkitAction.ADMINS),
            }

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("dbus.permissions")]
    assert said == [f"An operator has made user {BOB} an admin", f"An operator has removed the admin {ANN}"]


def test_permissions(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(
                permissions=(
                    CommandPermission(
                        command="ping", requires_admin=True, description="Pongs.\0", updated_at=WHEN, updated_by=ANN
                    ),
                )
            )
            await site.state.refresh()
            assert await site.ask("ListPermissions") == [[["ping", True, "Pongs.?", WHEN_US]]]
            assert await site.ask("SetPermission", "sb", "Ping", False) == []
            assert await site.ask("SetPermission", "sb", "dance", True) == []
            (shown,) = await site.ask("ListPermissions")
            assert [each[:3] for each in shown] == [["dance", True, "Command: dance"], ["ping", False, "Pongs.?"]]
            assert all(each[3] > WHEN_US for each in shown)
            assert {each.updated_by for each in site.store.contents.permissions} == {0}
            assert await site.ask("RemovePermission", "s", "PING") == [True]
            assert await site.ask("RemovePermission", "s", "ping") == [False]
            for member, signature, args in ("SetPermission", "sb", (True,)), ("RemovePermission", "s", ()):
                for command in ("admin", "two words", ""):
                    error = await site.refused(member, signature, command, *args)
                    assert error.code is Code.INVALID_ARGUMENT
            assert set(site.rights) == {
                ("ListPermissions", PolkitAction.READ),
                ("SetPermission", PolkitAction.ADMINS),
                ("RemovePermission", PolkitAction.ADMINS),
            }

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("dbus.permissions")]
    assert said == [
        "An operator has set the command ping to be for all users",
        "An operator has set the command dance to be for admins only",
        "An operator has undone what was set for the command ping",
    ]


def test_while_nothing_is_known_nothing_is_made_up(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with connected(bus_address, 2) as (bus, client):
            site = Site(bus, client)
            for member, signature, args in (
                ("ListAdmins", "", ()),
                ("ListPermissions", "", ()),
                ("SetPermission", "sb", ("ping", False)),
            ):
                error = await site.refused(member, signature, *args)
                assert error.code is Code.STORE
                assert "not open yet" in str(error)

    run(body())


def test_a_code_to_claim_with_is_shown_and_not_logged(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            command, seconds = await site.ask("IssueClaim")
            assert seconds == 600
            code = command.removeprefix("?claim ")
            with site.claims.redeeming(code):
                assert site.rights == [("IssueClaim", PolkitAction.ADMINS)]
            assert code not in caplog.text
            assert "has got a code" in caplog.text
            site.store.failure = DOWN
            with pytest.raises(RaveError, match="changes can't be saved: ") as e:
                await site.ask("IssueClaim")
            assert e.value.code is Code.STORE
            assert caplog.text.count("has got a code") == 1

    with caplog.at_level(logging.DEBUG):
        run(body())


def test_how_many_there_are(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN), admin(BOB)), permissions=(permission("ping"),))
            await site.state.refresh()
            site.permissions.show()
            assert await site.properties(names.PERMISSIONS_INTERFACE) == {"Admins": 2, "Permissions": 1}

    run(body())
