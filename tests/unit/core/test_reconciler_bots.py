"""What bots say, and what they answer."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.config.worker_settings import Edition
from ravesvc.core import health as health_module
from ravesvc.core.mesh_state import MeshState
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator import worker_client as workers_module
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.core.reconciler_site import Run, site_on
from tests.unit.fake_systemd import (
    MESH,
    OTHER,
    RUNNING,
    settle,
)
from tests.unit.mesh.test_worker_object import SIGNALS, FakeWorker

pytestmark = pytest.mark.slow


async def test_it_is_known_which_bots_have_not_heard_whom_to_forget(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_BROADCAST_TIMEOUT_S", 0.2)

    async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as (one, two):
        assert site.reconciler.in_use() is None
        await site.begin(MESH, OTHER)
        first, second = await site.bot(one, MESH), await site.bot(two, OTHER)
        assert await site.reconciler.forget_user(5) == {MESH, OTHER}, "neither is known yet"
        for bot in (first, second):
            bot.emit("Ready")
        await site.idle()
        assert await site.reconciler.forget_user(6) == set()
        second.gate.clear()
        assert await site.reconciler.forget_user(7) == {OTHER}
        assert (first.forgotten, second.forgotten) == ([6, 7], [6, 7])
        second.gate.set()
        for _ in range(3):
            site.discover(OTHER)
        assert site.reconciler.in_use() == {MESH, OTHER}, "what is about to stop is"
        await site.idle()
        site.systemd.unload(MESH)
        await site.idle()
        assert site.reconciler.in_use() == {OTHER}


async def test_reconnect_reaches_the_bot(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        with pytest.raises(RaveError) as e:
            await site.reconciler.reconnect_mesh(MESH)
        assert e.value.code is Code.NOT_RUNNING
        bot = await site.bot(bus, MESH)
        await site.reconciler.reconnect_mesh(MESH)
        assert bot.restarts == 1


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"ActiveState": "activating", "SubState": "start"}, "is starting (try again in some seconds)"),
        ({"ActiveState": "deactivating", "SubState": "stop"}, "is stopping (try again in some seconds)"),
        (
            {"ActiveState": "activating", "SubState": "auto-restart"},
            "is being restarted (try again in some seconds)",
        ),
        (RUNNING, "can't be reached now (try again in some seconds)"),
    ],
)
async def test_a_bot_that_does_not_answer_is_told_by_the_state_of_its_mesh(
    bus_address: str, tmp_path: Path, properties: dict[str, Any], said: str
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, **properties)
        await settle(site.systemd.bus, site.bus)
        for ask in (site.reconciler.reconnect_mesh, site.reconciler.users):
            with pytest.raises(RaveError) as e:
                await ask(MESH)
            assert (e.value.code, str(e.value)) == (Code.NOT_RUNNING, f"the bot of mesh {MESH} {said}")


async def test_a_bot_that_was_stopped_is_told_with_what_starts_it(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        await site.reconciler.stop_mesh(MESH, "alice")
        await site.idle()
        with pytest.raises(RaveError) as e:
            await site.reconciler.reconnect_mesh(MESH)
        why = "does not run, because it was stopped by an operator"
        assert str(e.value) == f"the bot of mesh {MESH} {why} (ravectl start {MESH} starts it)"


async def test_a_bot_that_connects_while_it_answers_is_connected(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        bot = await site.bot(bus, MESH)
        bot.gate.clear()
        bot.emit("Ready")
        await until(lambda: bot.asked == 1)

        def connect() -> None:
            bot.status = {"Connected": ("b", True)}
            bot.emit("Connected")
            # The answer and the signal are there when the loop goes on, as on a busy machine.
            time.sleep(0.1)

        bot.gate.set()
        asyncio.get_running_loop().call_soon(connect)
        await site.idle()
        assert site.reconciler.records[MESH].state == "connected"


async def test_a_bot_tells_who_is_in_its_mesh(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.bot(bus, MESH)
        assert await site.reconciler.users(MESH) == ([(7, "Zoë?")], 300)
        monkeypatch.delitem(FakeWorker.methods, "ListUsers")
        with pytest.raises(RaveError, match="runs an older program"):
            await site.reconciler.users(MESH)


async def test_settings_of_a_mesh_are_changed_by_its_bot(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        with pytest.raises(RaveError, match="does not run"):
            await site.reconciler.settings(MESH)
        bot = await site.bot(bus, MESH)
        changed = await site.reconciler.change_setting(MESH, "welcome.greeting", "Hi\x1b", "root")
        assert changed == ("welcome.greeting", "Hi?", "What it is?", "v" * 500)
        assert bot.settings == {"welcome.greeting": "Hi\x1b"}
        assert f"root has set welcome.greeting of mesh {MESH}: Hi?" in caplog.messages
        assert await site.reconciler.setting(MESH, "welcome.greeting") == changed
        assert await site.reconciler.settings(MESH) == ([changed], 600)
        with pytest.raises(RaveError) as e:
            await site.reconciler.setting(MESH, "x")
        assert e.value.code is Code.INVALID_ARGUMENT
        assert str(e.value).startswith("there is no setting x (?[2Jyyy")
        assert len(str(e.value)) == 300
        for member, ask in (
            ("GetSetting", site.reconciler.setting(MESH, "x")),
            ("ListSettings", site.reconciler.settings(MESH)),
            ("ChangeSetting", site.reconciler.change_setting(MESH, "x", "y", "root")),
        ):
            monkeypatch.delitem(FakeWorker.methods, member)
            with pytest.raises(RaveError, match="runs an older program"):
                await ask


async def test_a_bot_that_logs_more_is_shown_as_such(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        with pytest.raises(RaveError) as e:
            await site.reconciler.set_debug(MESH, True)
        assert e.value.code is Code.NOT_RUNNING
        bot = await site.bot(bus, MESH)
        for debug in (True, False):
            await site.reconciler.set_debug(MESH, debug)
            assert bot.debug is debug
            assert site.reconciler.records[MESH].worker.debug is debug


async def test_running_bots_are_adopted_and_left_running(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as (bus, silent):
        site.systemd.load(MESH, **RUNNING)
        site.systemd.load(OTHER, **RUNNING)
        bot = await site.bot(bus, MESH)
        site.verified[silent.unique_name] = names.mesh_unit(OTHER)
        await silent.request_name(names.worker_name(OTHER))
        bot.status = {"Connected": ("b", True), "LastError": ("s", "")}
        await site.reconciler.start()
        worker = site.reconciler.records[MESH].worker
        assert worker.ready
        assert worker.connected
        assert worker.since > 0
        assert site.reconciler.records[MESH].state == "connected"
        # One that does not answer keeps no other from being adopted.
        assert site.reconciler.records[OTHER].state == "disconnected"
        bot.emit("Disconnected", "the connection broke")
        await site.state(MESH, "disconnected")
        assert site.reconciler.records[MESH].reason == "the connection broke"
        await site.idle()
        assert site.systemd.verbs == []


@pytest.mark.slow
async def test_a_bot_that_is_slow_to_answer_holds_up_nothing(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_module, "_ADOPTION_S", 1.0)  # so long as the other one may take on a busy machine

    with caplog.at_level(logging.INFO):
        async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as (bus, quick):
            for mesh, bots_bus in ((MESH, bus), (OTHER, quick)):
                site.systemd.load(mesh, **RUNNING)
                bot = await site.bot(bots_bus, mesh)
                bot.status = {"Connected": ("b", True), "LastError": ("s", "")}
            bot = site.bots[MESH]
            bot.gate.clear()
            async with asyncio.timeout(30):
                await site.reconciler.start()
            assert "1 of 2 running meshes answered" in caplog.text
            assert site.reconciler.records[MESH].state == "disconnected"
            assert site.reconciler.records[OTHER].state == "connected"
            await until(lambda: bot.asked)
            for _ in range(3):
                site.discover(MESH, OTHER)
            await settle(site.bus, bus)
            assert bot.asked == 1, "it is being waited for"
            bot.gate.set()
            await until(lambda: site.shown[-1] == (MESH, "connected", ""))
            site.discover(MESH, OTHER)
            await site.idle()
            assert bot.asked == 1
            assert site.systemd.verbs == []


async def test_a_bot_that_did_not_answer_is_asked_again(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_CALL_TIMEOUT_S", 0.05)

    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        site.systemd.load(MESH, **RUNNING)
        bot = await site.bot(bus, MESH)
        bot.status = {"Connected": ("b", True), "LastError": ("s", "a small\ntrouble" + "!" * 300)}
        bot.gate.clear()
        await site.reconciler.start()
        assert not site.reconciler.records[MESH].worker.ready
        assert site.reconciler.records[MESH].state == "disconnected"
        bot.gate.set()
        monkeypatch.setattr(workers_module, "_CALL_TIMEOUT_S", 10.0)
        site.discover(MESH)
        await until(lambda: site.shown[-1] == (MESH, "connected", ""))
        last_error = site.reconciler.records[MESH].worker.last_error
        assert last_error == ("a small?trouble" + "!" * 300)[:300]
        assert bot.asked == 2


async def test_what_a_bot_says_is_shown(bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert SIGNALS.keys() >= {"Ready", "ConnectionFailed", "Connected", "Error", "Disconnected", "Left", "Kicked"}
    with caplog.at_level(logging.INFO):
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.begin(MESH)
            bot = await site.bot(bus, MESH)

            async def say(signal: str, *args: Any) -> MeshState:
                before = len(site.shown)
                bot.emit(signal, *args)
                await until(lambda: len(site.shown) > before)
                return site.reconciler.records[MESH]

            bot.status = {"LastError": ("s", "none so far")}
            assert (await say("Ready")).worker.ready
            await until(lambda: site.reconciler.records[MESH].reason == "none so far")
            assert (await say("ConnectionFailed", 2, "no route")).reason == "no route"
            record = await say("Connected")
            assert (record.state, record.reason, record.worker.last_error) == ("connected", "", "")
            since = record.worker.since
            assert since > 1_600_000_000
            assert (await say("Error", "a small trouble")).state == "connected"
            assert record.worker.last_error == "a small trouble"
            assert (await say("CommandErrors", ["greet.py: it\nfails"])).worker.command_errors == (
                "greet.py: it?fails",
            )
            assert f"Plugins fail, first in mesh {MESH}: greet.py: it?fails" in caplog.text
            assert (await say("CommandErrors", [])).worker.command_errors == ()
            assert (await say("Disconnected", "the connection broke")).reason == "the connection broke"
            assert record.worker.since >= since
            assert (await say("Left", "the mesh is gone")).reason == "the mesh is gone"
            assert site.blocklist.in_force() == {}, "its exit status will tell"


@pytest.mark.parametrize(
    ("signal", "before"), [("Disconnected", ()), ("ConnectionFailed", (1,)), ("Error", ()), ("Left", ())]
)
def test_the_words_of_a_bot_are_cut_and_control_nothing(
    run: Run,
    bus_address: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    signal: str,
    before: tuple[int, ...],
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.begin(MESH)
            bot = await site.bot(bus, MESH)
            bot.emit(signal, *before, "\033[2J\nREADY=1 " + "x" * 400)
            await until(lambda: site.reconciler.records[MESH].worker.last_error)
            said = site.reconciler.records[MESH].worker.last_error
            assert said == ("?[2J?READY=1 " + "x" * 400)[:300]
            assert site.shown[-1] == (MESH, "disconnected", said)

    with caplog.at_level(logging.INFO):
        run(body())
    assert "\033" not in caplog.text
    assert "x" * 300 not in caplog.text


async def test_the_words_of_a_bot_end_with_it_but_for_its_last_error(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        bot = await site.bot(bus, MESH)
        bot.emit("Connected")
        bot.emit("Error", "a small trouble")
        await until(lambda: site.reconciler.records[MESH].worker.last_error)
        site.systemd.change(MESH, MainPID=101)
        await until(lambda: site.reconciler.records[MESH].run.process == 101)
        assert site.shown[-1] == (MESH, "disconnected", "a small trouble")
        assert not site.reconciler.records[MESH].worker.ready


async def test_the_first_words_of_a_bot_may_come_before_the_news_of_its_process(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.reconciler.start()
        site.systemd.jobs_wait = True
        site.discover(MESH)
        await site.state(MESH, "starting")
        bot = await site.bot(bus, MESH)
        bot.status = {"Connected": ("b", True)}
        bot.emit("Ready")
        bot.emit("Connected")
        await until(lambda: site.reconciler.records[MESH].worker.connected)
        site.systemd.finish(MESH)
        await site.state(MESH, "connected")


@pytest.mark.slow
async def test_attempts_are_counted_over_processes_until_a_connection_holds(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        bot = await site.bot(bus, MESH)
        bot.emit("ConnectionFailed", 2, "no route")
        await until(lambda: site.saved().memory(MESH).failures == 2)
        assert site.saved().memory(MESH).last_error == "no route"
        bot.emit("Connected")
        await site.state(MESH, "connected")
        bot.emit("Disconnected", "the connection broke")
        await site.state(MESH, "disconnected")
        await site.idle()
        assert site.saved().memory(MESH).failures == 2, "it did not hold"
        bot.emit("Connected")
        await site.state(MESH, "connected")
        site.reconciler.records[MESH].worker.connected_at -= 60
        bot.emit("Disconnected", "the connection broke")
        await until(lambda: site.saved().memory(MESH).failures == 0)


@pytest.mark.slow
async def test_what_a_bot_tells_when_asked_counts_as_what_it_says(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        site.systemd.load(MESH, **RUNNING)
        bot = await site.bot(bus, MESH)
        bot.status = {
            "Connected": ("b", False),
            "Attempts": ("u", 2),
            "LastError": ("s", "no route"),
            "Version": ("s", "1.2.3"),
            "SettingsDigest": ("s", "0123"),
        }
        await site.reconciler.start()
        await until(lambda: site.saved().memory(MESH).failures == 2)
        assert site.reconciler.records[MESH].worker.edition == Edition("1.2.3", "0123")
        bot.status = {"Connected": ("b", True), "ConnectedUSec": ("t", 61_000_000), "Attempts": ("u", 0)}
        await site.reconciler.health.ask(MESH)
        await until(lambda: site.saved().memory(MESH).failures == 0)
        assert site.reconciler.records[MESH].state == "connected"


def test_a_bot_that_does_not_answer_gets_another_process(
    run: Run, bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.begin(MESH)
            site.reconciler.records[MESH].worker.heard -= 61
            site.systemd.jobs_wait = True
            await site.reconciler.health.ask(MESH)
            assert (MESH, "unhealthy", "its process does not answer") in site.shown
            await until(lambda: site.systemd.verbs[-1] == ("restart", MESH))
            site.reconciler._unhealthy(MESH)  # which is being done already
            site.systemd.jobs_wait = False
            site.systemd.finish(MESH)
            await site.idle()
            assert [verb for verb, _ in site.systemd.verbs] == ["start", "restart"]
            assert site.reconciler.records[MESH].state == "disconnected"
            assert site.blocklist.in_force() == {}

    run(body())
    assert f"Restarting mesh {MESH}, because its process does not answer" in caplog.text


@pytest.mark.slow
async def test_a_bot_cannot_count_beyond_what_can_be_counted(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        bot = await site.bot(bus, MESH)
        bot.emit("ConnectionFailed", 2**32 - 1, "no route")
        await until(lambda: site.saved().memory(MESH).failures == 2**32 - 1)
        site.runner._heard(MESH, "ConnectionFailed", [2**64 - 1, "no route"])
        await until(lambda: site.saved().memory(MESH).failures == 0)
