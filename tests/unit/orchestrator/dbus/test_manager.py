from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from ravesvc import names
from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block, MeshMemory, Reason
from ravesvc.bus.message import Message
from ravesvc.config.worker_settings import Edition
from ravesvc.core.health import Stats
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.plan import Action, Decision
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.run_state import RunPhase, RunState
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.version import __version__
from tests.unit.conftest import until
from tests.unit.fake_store import DOWN
from tests.unit.fake_systemd import MESH, OTHER
from tests.unit.operator_site import ANN, BOB, FILM, Run, site_on

# Meshes.


async def test_the_meshes(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.reconciler.records = {OTHER: MeshState(OTHER), MESH: MeshState(MESH, listed=FILM)}
        assert await site.ask("ListMeshes") == [
            [
                [MESH, "A film", "stopped", names.mesh_path(MESH)],
                [OTHER, "", "stopped", names.mesh_path(OTHER)],
            ]
        ]
        site.reconciler.records[MESH].worker.since = 2.5
        assert await site.ask("DescribeMeshes") == [
            [
                [MESH, "A film", "stopped", "", 2_500_000, len(FILM.users), 0, False],
                [OTHER, "", "stopped", "", 0, 0, 0, False],
            ]
        ]
        assert await site.ask("GetMesh", "s", MESH) == [names.mesh_path(MESH)]
        await site.ask("StartMesh", "s", MESH)
        await site.ask("StopMesh", "s", OTHER)
        await site.ask("RestartMesh", "s", MESH)
        await site.ask("ReconnectMesh", "s", MESH)
        await site.ask("SetDebug", "sb", MESH, True)
        asked = [
            ("start_mesh", MESH, "ann"),
            ("stop_mesh", OTHER, "ann"),
            ("restart_mesh", MESH),
            ("reconnect_mesh", MESH),
            ("set_debug", MESH, True),
        ]
        assert site.reconciler.asked == asked
        assert not site.discovery._asked.is_set()
        site.discovery.round = 6
        assert await site.ask("Discover") == [7]
        assert site.discovery._asked.is_set()
        read, operate = PolkitAction.READ, PolkitAction.OPERATE
        assert site.rights == [
            ("ListMeshes", read),
            ("DescribeMeshes", read),
            ("GetMesh", read),
            ("StartMesh", operate),
            ("StopMesh", operate),
            ("RestartMesh", operate),
            ("ReconnectMesh", operate),
            ("SetDebug", operate),
            ("Discover", operate),
        ]


async def test_settings_of_a_mesh(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.reconciler.records = {MESH: MeshState(MESH, listed=FILM)}
        lang = ["lang", "de", "The language of answers", "de, en"]
        assert await site.ask("ListSettings", "s", MESH) == [[lang], 3]
        assert await site.ask("GetSetting", "ss", MESH, "lang") == [lang]
        assert await site.ask("ChangeSetting", "sss", MESH, "lang", "en") == [lang]
        assert site.reconciler.asked[1:] == [("setting", MESH, "lang"), ("change_setting", MESH, "lang", "en", "ann")]
        assert site.rights == [
            ("ListSettings", PolkitAction.READ),
            ("GetSetting", PolkitAction.READ),
            ("ChangeSetting", PolkitAction.OPERATE),
        ]
        for name, value in (("x" * 501, "en"), ("lang", "x" * 501)):
            error = await site.refused("ChangeSetting", "sss", MESH, name, value)
            assert error.code is Code.INVALID_ARGUMENT
        assert (await site.refused("ListSettings", "s", OTHER)).code is Code.NO_SUCH_MESH
        assert len(site.reconciler.asked) == 3


@pytest.mark.parametrize(
    ("member", "mesh", "code"),
    [
        ("GetMesh", MESH, Code.NO_SUCH_MESH),
        ("GetMesh", "x", Code.INVALID_ARGUMENT),
        ("GetMesh", MESH.upper(), Code.INVALID_ARGUMENT),
        ("StartMesh", "", Code.INVALID_ARGUMENT),
        ("StartMesh", OTHER, Code.BLOCKED),
        ("StopMesh", f"{MESH}.service", Code.INVALID_ARGUMENT),
        ("RestartMesh", MESH[:-1], Code.INVALID_ARGUMENT),
        ("RestartMesh", OTHER, Code.NOT_RUNNING),
        ("GetHealth", MESH, Code.NO_SUCH_MESH),
        ("GetHealth", "x", Code.INVALID_ARGUMENT),
        ("ReconnectMesh", "x", Code.INVALID_ARGUMENT),
        ("Explain", MESH, Code.NO_SUCH_MESH),
        ("Explain", "x", Code.INVALID_ARGUMENT),
    ],
)
async def test_what_is_refused_about_meshes(bus_address: str, member: str, mesh: str, code: Code) -> None:
    async with site_on(bus_address) as site:
        error = await site.refused(member, "s", mesh)
        assert error.code is code
        assert error.attributes["error_name"] == f"org.ravesvc.Rave1.Error.{code}"


# Why it is as it is.


async def test_the_plan_is_told_with_its_reasons(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        assert await site.ask("Plan") == [[]]
        site.reconciler.decisions = (
            Decision(MESH, Action.START, "discovery lists it"),
            Decision(OTHER, Action.SKIP, "it could not be reached: no route\nto host" + "x" * 1000),
        )
        long = "it could not be reached: no route?to host"
        assert await site.ask("Plan") == [
            [[MESH, "start", "discovery lists it"], [OTHER, "skip", long + "x" * (500 - len(long))]]
        ]
        assert site.rights == [("Plan", PolkitAction.READ)] * 2
        assert site.reconciler.asked == [], "nothing is done"


async def test_the_plan_has_those_that_are_only_blocked(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.reconciler.decisions = (Decision(MESH, Action.SKIP, "the bot was kicked"),)
        for mesh in (MESH, OTHER):
            block = Block(mesh=mesh, reason=Reason.KICKED, since=0, until=None)
            site.reconciler.records[mesh] = MeshState(mesh, block=block)
        ((first, second),) = await site.ask("Plan")
        assert first == [MESH, "skip", "the bot was kicked"]
        assert second == [OTHER, "skip", block.describe()]


@pytest.mark.usefixtures("utc")
async def test_one_answer_explains_a_mesh_that_is_blocked(bus_address: str) -> None:
    block = Block(
        mesh=MESH,
        reason=Reason.CONNECTION_FAILURES,
        since=1_700_003_600_000,
        until=1_700_007_200_000,
        detail="no route to host",
        count=2,
    )

    async with site_on(bus_address) as site:
        site.discovery.last_good = 1_699_999_000.0
        site.discovery.error = RaveError(Code.NETWORK, "no route", hint="wait")
        site.blocklist.memories[MESH] = MeshMemory(blocks=2, failures=1, last_error="no route to host")
        site.reconciler.decisions = (
            Decision(OTHER, Action.KEEP, "it runs"),
            Decision(MESH, Action.SKIP, "it could not be reached: no route to host"),
        )
        film = Mesh(MESH, "server.example:443", "A\nfilm", True, ())
        site.reconciler.records = {OTHER: MeshState(OTHER), MESH: MeshState(MESH, listed=film, block=block)}
        lines, details = await site.ask("Explain", "s", MESH)
        assert lines == [
            f"Mesh {MESH} (A?film) is blocked: it could not be reached: no route to host.",
            "Discovery lists it as an invitation, last read on 2023-11-14 at 21:56:40 UTC.",
            "Discovery fails now, so what was known goes on: no route.",
            "It was put on the blocklist on 2023-11-14 at 22:13:20 UTC, by service: it could not be reached: "
            "no route to host, 2 times in a row.",
            "1 failed attempt since a connection last held: no route to host.",
            "Its unit is inactive (dead).",
            "Next: it is tried again on 2023-11-14 at 23:13:20 UTC.",
        ]
        told = {name: details[name] for name in ("State", "Action", "Blocks", "Attempts", "Outdated")}
        assert told == {"State": "blocked", "Action": "skip", "Blocks": 2, "Attempts": 1, "Outdated": False}
        assert details["BlockSinceTimestamp"] == 1_700_000_000_000_000
        assert details["NextRetryTimestamp"] == 1_700_003_600_000_000
        assert details["LastDiscoveryTimestamp"] == 1_699_999_000_000_000
        assert details["SilenceUSec"] == 1_500_000
        assert site.rights == [("Explain", PolkitAction.READ)]


@pytest.mark.parametrize("blocked", [True, False])
async def test_a_mesh_may_be_in_no_plan_and_a_block_without_an_end(bus_address: str, blocked: bool) -> None:
    async with site_on(bus_address) as site:
        record = site.reconciler.records[MESH] = MeshState(MESH)
        if blocked:
            record.block = Block(mesh=MESH, reason=Reason.KICKED, since=3_600_001, until=None)
        site.roll.old = [MESH]
        _, details = await site.ask("Explain", "s", MESH)
        assert (details["Action"], details["NextRetryTimestamp"], details["Outdated"]) == ("", 0, True)
        assert details["BlockSinceTimestamp"] == (1000 if blocked else 0)


async def test_the_health_of_a_mesh_is_that_of_the_moment(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        record = MeshState(MESH, run=RunState(phase=RunPhase.RUNNING), worker=WorkerState(connected=True))
        site.reconciler.records[MESH] = record
        assert await site.ask("GetHealth", "s", MESH) == ["connected", 1_500_000, True]
        # Whether it was announced or not.
        record.worker.healthy = False
        site.reconciler.health.seconds = 61.25
        assert await site.ask("GetHealth", "s", MESH) == ["unhealthy", 61_250_000, False]
        assert site.rights == [("GetHealth", PolkitAction.READ)] * 2


async def test_the_health_of_all_counts_the_same_meshes_as_the_property(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        running = RunState(phase=RunPhase.RUNNING)
        site.reconciler.records[MESH] = MeshState(MESH, run=running, worker=WorkerState(connected=True))
        site.reconciler.records[OTHER] = MeshState(OTHER, run=running)
        site.reconciler.blocked_only = 300
        site.manager.show("", "")
        total, *kinds = await site.ask("GetHealthStats")
        assert (total, kinds) == (302, [2, 0, 1, 1, 300])
        assert site.manager.values()["Meshes"].value == total
        assert site.rights == [("GetHealthStats", PolkitAction.READ)]
        assert list(ManagerObject.methods["GetHealthStats"].returns) == list(Stats._fields)


# A roll.


async def test_a_roll_is_begun_and_cancelled(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.roll.old = [MESH, OTHER]
        assert await site.ask("Roll") == [2]
        assert (await site.refused("Roll")).code is Code.BUSY
        assert await site.ask("CancelRoll") == []
        assert site.roll.asked == ["start", "start", "cancel"]
        assert site.rights == [(member, PolkitAction.OPERATE) for member in ("Roll", "Roll", "CancelRoll")]


async def test_a_roll_is_followed_by_signals(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.manager.roll_progress(0, 1, MESH)
        site.manager.roll_progress(1, 1, "")
        site.manager.roll_finished(None)
        site.manager.roll_finished(RaveError(Code.NOT_RUNNING, "it is not connected again", hint="look"))
        assert await site.said() == [
            ("RollProgress", 0, 1, MESH),
            ("RollProgress", 1, 1, ""),
            ("RollFinished", "", ""),
            ("RollFinished", "NotRunning", "it is not connected again (look)"),
        ]


@pytest.mark.parametrize("cancelled", [True, False])
def test_the_answer_to_a_roll_comes_before_all_that_is_told_of_it(
    run: Run, bus_address: str, *, cancelled: bool
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            roll = RollingRestart(site.reconciler, Edition("1", ""))  # type: ignore[arg-type]
            roll.progress.connect(lambda at: site.manager.roll_progress(at.done, at.total, at.mesh))
            roll.ended.connect(site.manager.roll_finished)
            site.manager._roll = roll
            sent: list[str] = []
            send = site.bus._send

            def note(message: Message) -> None:
                sent.append(message.member or message.kind.name)
                if cancelled:
                    roll.cancel()
                send(message)

            site.bus._send = note  # type: ignore[method-assign]
            assert await site.ask("Roll") == [0]
            await until(lambda: "RollFinished" in sent)
            assert [each for each in sent if each != "PropertiesChanged"] == [
                "RETURN",
                *([] if cancelled else ["RollProgress"]),
                "RollFinished",
            ]

    run(body())


# A round.


@pytest.mark.parametrize("code", [Code.CONFIG, Code.LOGIN_NEEDED, Code.STORE, Code.BAD_FILE])
async def test_a_round_that_can_not_begin_is_refused_with_what_is_in_the_way(bus_address: str, code: Code) -> None:
    async with site_on(bus_address) as site:
        site.discovery.suspend(RaveError(code, "that is in the way", hint="mend it"))
        error = await site.refused("Discover")
        assert error.code is code
        assert "that is in the way (mend it)" in str(error)
        assert not site.discovery._asked.is_set()
        site.discovery.resume()
        assert await site.ask("Discover") == [1]


# Losses that are true.


def test_losses_are_confirmed_and_carried_out_at_once(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            other = Mesh(OTHER, None, "", True, ())
            site.discovery.inventory.observe([FILM, other])
            site.discovery.inventory.observe([])
            assert site.discovery.inventory.held_back == 2
            assert await site.ask("ConfirmLosses") == [2]
            assert site.discovery.inventory.meshes == {}
            assert site.reconciler.asked == [("reconcile",)]
            assert await site.ask("ConfirmLosses") == [0]
            assert site.rights == [("ConfirmLosses", PolkitAction.OPERATE)] * 2

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("manager")]
    assert said[0] == "An operator confirms the loss of 2 meshes"


# What can be read.


UNSET = {
    "Version": __version__,
    "Status": "",
    "Meshes": 0,
    "Connected": 0,
    "Unhealthy": 0,
    "Outdated": 0,
    "DiscoveryError": "",
    "LastDiscoveryTimestamp": 0,
    "StaleSinceTimestamp": 0,
    "HeldBack": 0,
    "UnshownMessages": 0,
    "CommandErrors": [],
    "ConfigNote": "",
    "ReloadedOptions": [],
}


async def test_the_properties_and_the_end_of_a_round(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        assert await site.properties() == UNSET
        site.manager.discovery_finished()
        assert await site.said() == [("DiscoveryFinished", 0, 0, "")]
        site.discovery.round = 7
        await site.discovery._one_round()
        worker = WorkerState(connected=True, command_errors=("b.py: it fails", "a.py: it fails"))
        connected = MeshState(MESH, run=RunState(phase=RunPhase.RUNNING), worker=worker)
        other = MeshState(OTHER, worker=WorkerState(command_errors=("a.py: it fails",)))
        site.reconciler.records = {MESH: connected, OTHER: other}
        site.manager.show("2 meshes", "2 meshes")
        site.manager.discovery_finished()
        at = int(site.discovery.last_good * 1_000_000)
        changed = {"Status": "2 meshes", "Meshes": 2, "Connected": 1, "LastDiscoveryTimestamp": at}
        changed["CommandErrors"] = ["a.py: it fails", "b.py: it fails"]
        assert await site.said() == [
            ("PropertiesChanged", names.MANAGER_INTERFACE, changed, []),
            ("DiscoveryFinished", 7, 1, ""),
        ]
        site.discovery.error = RaveError(Code.NETWORK, "no route", hint="wait")
        site.discovery._known_until = 1.5
        site.discovery.inventory.held_back = 3
        site.manager.show("2 meshes", "2 meshes")
        await asyncio.sleep(0)
        site.manager.discovery_finished()
        changed = {"DiscoveryError": "no route (wait)", "StaleSinceTimestamp": 1_500_000, "HeldBack": 3}
        assert await site.said() == [
            ("PropertiesChanged", names.MANAGER_INTERFACE, changed, []),
            ("DiscoveryFinished", 7, 1, "no route (wait)"),
        ]


async def test_how_many_are_not_well_or_old_are_properties_too(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        hung = MeshState(MESH, run=RunState(phase=RunPhase.RUNNING), worker=WorkerState(healthy=False))
        site.reconciler.records = {MESH: hung, OTHER: MeshState(OTHER)}
        site.roll.old = [MESH, OTHER]
        site.manager.show("2 meshes", "2 meshes")
        assert await site.properties() == UNSET | {
            "Status": "2 meshes",
            "Meshes": 2,
            "Unhealthy": 1,
            "Outdated": 2,
        }


async def test_a_refused_identity_is_an_obstacle(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        for code, obstacle in [
            (Code.IDENTITY, "refused (check it)"),
            (Code.CLOCK, "refused (check it)"),
            (Code.NETWORK, ""),
        ]:
            site.discovery.error = RaveError(code, "refused", hint="check it")
            (status,) = await site.ask("GetStatus")
            assert status["Obstacle"] == obstacle


# What the objects beside the manager have.
BESIDE = {
    "Store": "embedded",
    "StoreError": "",
    "HasAccount": False,
    "LoginNeeded": False,
    "IdentityMissing": [],
    "LoginStep": "",
    "Admins": 0,
    "Permissions": 0,
}


async def test_the_status_is_every_property_and_a_count_of_states(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        counts: dict[str, Any] = {"States": {}, "Blocks": {}, "Outages": [], "Pauses": [], "Plugins": []}
        expected = {**UNSET, **BESIDE, **counts, "BlocklistError": "", "Obstacle": "", "Summary": ""}
        assert await site.ask("GetStatus") == [expected]
        site.manager.show("3 meshes; plugins fail", "3 meshes")
        (status,) = await site.ask("GetStatus")
        assert (status["Status"], status["Summary"]) == ("3 meshes; plugins fail", "3 meshes")
        connected = MeshState(MESH, run=RunState(phase=RunPhase.RUNNING), worker=WorkerState(connected=True))
        site.reconciler.records = {MESH: connected, OTHER: MeshState(OTHER), "x": MeshState("x")}
        site.account.step = "waiting"
        site.account_object.show(login_needed=True)
        site.store.failure = DOWN
        with contextlib.suppress(RaveError):
            await site.state.refresh()
        (status,) = await site.ask("GetStatus")
        assert status["States"] == {"connected": 1, "stopped": 2}
        assert (status["LoginNeeded"], status["LoginStep"]) == (True, "waiting")
        assert status["StoreError"] == str(DOWN)
        assert site.rights == [("GetStatus", PolkitAction.READ)] * 3


async def test_users_of_a_mesh_and_which_of_them_are_admins(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.reconciler.records[MESH] = MeshState(MESH)
        await site.state.add_admin(ANN, ANN)
        assert await site.ask("ListUsers", "s", MESH) == [[[ANN, "Ann", True], [BOB, "Bob", False]], 300]
        with pytest.raises(RaveError) as e:
            await site.ask("ListUsers", "s", OTHER)
        assert e.value.code is Code.NO_SUCH_MESH
