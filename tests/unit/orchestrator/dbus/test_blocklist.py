from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.model import BlocklistChange, Reason
from ravesvc.bus import Bus, SignalMessage
from ravesvc.common.steady_clock import Clock
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.blocklist import BlocklistObject
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.fake_access import FakeAccessCheck
from tests.unit.fake_systemd import MESH, OTHER, new_mesh, settle

Run = Callable[[Any], Any]

# Microseconds since the epoch, at the start of each test.
START = 1_700_000_000_000_000
HOUR = 3_600_000_000
LONGEST = 100 * 365 * 24 * HOUR
BLOCK = (MESH, 0, "it is noisy")


class Time:
    """A clock that a test moves; `wall` is what an operator has set it ahead by."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.wall = 0.0
        self.clock = Clock(
            wall=lambda: START / 1e6 + self.seconds + self.wall, boottime=lambda: self.seconds, boot="b"
        )


class Site:
    """A blocklist on disk, and its object on a bus."""

    def __init__(self, bus: Bus, client: Bus, path: Path) -> None:
        self.bus = bus
        self.client = client
        self.path = path
        self.time = Time()
        self.titles: dict[str, str] = {}
        self.access = FakeAccessCheck()
        self.heard: list[SignalMessage] = []
        self.blocks = Blocklist(
            path,
            3600.0,
            self.time.clock,
            announce=self._announce,
            changed=lambda: self.object.show(),
            title_of=lambda mesh: self.titles.get(mesh, ""),
            retry_s=0.005,
        )
        self.object = BlocklistObject(self.access, self.blocks)  # type: ignore[arg-type]

    def _announce(self, change: BlocklistChange) -> None:
        self.object.show()
        self.object.changed(change)

    async def ask(self, member: str, signature: str = "", *args: Any) -> list[Any]:
        return await self._call(names.BLOCKLIST_INTERFACE, member, signature, *args)

    async def refused(self, member: str, signature: str = "", *args: Any) -> RaveError:
        with pytest.raises(RaveError) as e:
            await self.ask(member, signature, *args)
        return e.value

    async def properties(self) -> dict[str, Any]:
        interface = "org.freedesktop.DBus.Properties"
        (values,) = await self._call(interface, "GetAll", "s", names.BLOCKLIST_INTERFACE)
        return dict(values)

    async def _call(self, interface: str, member: str, signature: str, *args: Any) -> list[Any]:
        path = names.MANAGER_PATH
        return await self.client.call(self.bus.unique_name, path, interface, member, signature, *args)

    async def said(self, *members: str) -> list[tuple[Any, ...]]:
        """What the signals have said since the last time, of those with one of these names."""
        await settle(self.bus, self.client)
        heard, self.heard[:] = [(signal.member, *signal.body) for signal in self.heard], []
        return [said for said in heard if said[0] in members]

    def on_disk(self) -> dict[str, Any]:
        entries: dict[str, Any] = json.loads(self.path.read_text())["blockedMeshes"]
        return entries


@contextlib.asynccontextmanager
async def site_on(address: str, path: Path) -> AsyncIterator[Site]:
    async with connected(address, 2) as (bus, client):
        site = Site(bus, client, path)
        await client.match(f"type='signal',sender='{bus.unique_name}'", site.heard.append)
        bus.export(names.MANAGER_PATH, site.object)
        await site.blocks.start()
        try:
            yield site
        finally:
            await site.blocks.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blocklist.json"


# Reading.


async def test_an_empty_list(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        assert await site.ask("ListEntries") == [[]]
        assert await site.ask("GetStats") == [0, 0, 0]
        assert await site.ask("GetHistory", "s", MESH) == [[]]
        assert await site.properties() == {"Total": 0, "Permanent": 0, "Temporary": 0, "Error": ""}
        read = PolkitAction.READ
        assert site.access.rights == [("ListEntries", read), ("GetStats", read), ("GetHistory", read)]


async def test_the_entries_are_listed_the_oldest_first(bus_address: str, path: Path) -> None:
    third = new_mesh()

    async with site_on(bus_address, path) as site:
        for mesh, reason, detail, actor in (
            (OTHER, Reason.KICKED, "", "service"),
            (third, Reason.CONNECTION_FAILURES, "no route\nto host", "service"),
            (MESH, Reason.HELD, "", "systemctl"),
        ):
            site.time.seconds += 1
            await site.blocks.add(mesh, reason, detail=detail, actor=actor)
        assert await site.ask("ListEntries") == [
            [
                [OTHER, "kicked", START + 1_000_000, 0, "", "service", 1],
                [
                    *(third, "connection_failures", START + 2_000_000, START + 2_000_000 + HOUR),
                    *("no route?to host", "service", 1),
                ],
                [MESH, "held", START + 3_000_000, 0, "", "systemctl", 1],
            ]
        ]
        assert await site.ask("GetStats") == [3, 2, 1]
        assert await site.properties() == {"Total": 3, "Permanent": 2, "Temporary": 1, "Error": ""}


async def test_the_titles_of_entries(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        site.titles[MESH] = "Film\x00 night" + "!" * 300
        await site.blocks.add(MESH, Reason.KICKED)
        await site.blocks.add(OTHER, Reason.HELD)
        (described,) = await site.ask("DescribeEntries")
        assert [each[:2] for each in described] == [[MESH, "Film? night" + "!" * 89], [OTHER, ""]]
        # The other columns are those of ListEntries.
        assert [[[mesh, *more] for mesh, _, *more in described]] == await site.ask("ListEntries")
        assert site.access.rights[0] == ("DescribeEntries", PolkitAction.READ)


async def test_times_are_those_of_the_clock_on_the_wall(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        await site.blocks.add(MESH, Reason.CRASHES)
        # An operator sets it a day ahead: the block still ends an hour after its begin.
        site.time.wall = 86400.0
        day = 24 * HOUR
        ((entry,),) = await site.ask("ListEntries")
        assert entry[2:4] == [START + day, START + day + HOUR]
        (((at, *_),),) = await site.ask("GetHistory", "s", MESH)
        assert at == START + day


async def test_what_a_file_says_fits_the_bus(bus_address: str, path: Path) -> None:
    entry = {"meshId": MESH, "reason": "crashes", "blockedAt": -(2**60), "blockedUntil": 2**53, "count": 2**40}
    entry |= {"detail": "x" * 1000, "actor": "\x1b[1m" + "y" * 1000}
    path.write_text(json.dumps({"blockedMeshes": {MESH: entry}}))

    async with site_on(bus_address, path) as site:
        assert await site.ask("ListEntries") == [
            [[MESH, "crashes", 0, 2**53 * 1000, "x" * 200, "blocklist.json", 2**32 - 1]]
        ]
        ((event,),) = await site.ask("GetHistory", "s", MESH)
        assert event[1:] == ["blocked", "crashes", "blocklist.json", "x" * 200]
        assert await site.ask("Unblock", "s", MESH) == [True]
        ((_, event),) = await site.ask("GetHistory", "s", MESH)
        assert event[1:] == ["unblocked", "crashes", "ann", "x" * 200]


@pytest.mark.parametrize("mesh", ["", "x", MESH.upper(), f"{MESH}.service"])
async def test_what_is_no_mesh_is_refused(bus_address: str, path: Path, mesh: str) -> None:
    async with site_on(bus_address, path) as site:
        for member, signature, *args in ("GetHistory", "s"), ("Block", "sts", 0, ""), ("Unblock", "s"):
            assert (await site.refused(str(member), str(signature), mesh, *args)).code is Code.INVALID_ARGUMENT
        assert not site.blocks.in_force()


async def test_the_properties_are_there_from_the_start(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        await site.blocks.add(MESH, Reason.KICKED)
        await site.blocks.add(OTHER, Reason.CRASHES)
    async with site_on(bus_address, path) as site:
        assert await site.ask("GetStats") == [2, 1, 1]
        assert await site.properties() == {"Total": 2, "Permanent": 1, "Temporary": 1, "Error": ""}


# Blocking.


async def test_an_operator_blocks_for_ever(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        await site.said()
        assert await site.ask("Block", "sts", *BLOCK) == []
        # On disk when the answer comes, and announced by then.
        entry = site.on_disk()[MESH]
        assert (entry["reason"], entry["blockedUntil"], entry["actor"]) == ("operator", None, "ann")
        changed = {"Total": 1, "Permanent": 1}
        assert await site.said("PropertiesChanged", "Blocked", "Unblocked") == [
            ("PropertiesChanged", names.BLOCKLIST_INTERFACE, changed, []),
            ("Blocked", MESH, "operator", 0, "it is noisy", "ann"),
        ]
        assert await site.ask("ListEntries") == [[[MESH, "operator", START, 0, "it is noisy", "ann", 1]]]
        assert await site.ask("GetHistory", "s", MESH) == [
            [[START, "blocked", "operator", "ann", "it is noisy"]],
        ]
        assert site.access.rights[0] == ("Block", PolkitAction.BLOCKLIST)


async def test_an_operator_blocks_for_a_time_and_its_end_is_announced(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        await site.ask("Block", "sts", MESH, 500_000, "")
        assert await site.said("Blocked") == [("Blocked", MESH, "operator", START + 500_000, "", "ann")]
        assert await site.properties() == {"Total": 1, "Permanent": 0, "Temporary": 1, "Error": ""}
        site.time.seconds = 0.6
        site.blocks._expire()
        await until(lambda: not site.blocks.announced)
        assert await site.said("Blocked", "Unblocked") == [("Unblocked", MESH, "operator", "service")]
        assert await site.properties() == {"Total": 0, "Permanent": 0, "Temporary": 0, "Error": ""}
        ((*_, last),) = await site.ask("GetHistory", "s", MESH)
        assert last == [START + 600_000, "released", "operator", "service", ""]


async def test_a_block_may_last_a_hundred_years_and_no_longer(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        for usec in (LONGEST + 1, 2**64 - 1):
            error = await site.refused("Block", "sts", MESH, usec, "")
            assert error.code is Code.INVALID_ARGUMENT
            assert "more than a hundred years (0 means for ever)" in str(error)
        assert not site.blocks.in_force()
        await site.ask("Block", "sts", MESH, LONGEST, "")
        ((entry,),) = await site.ask("ListEntries")
        assert entry[3] == START + LONGEST


async def test_what_an_operator_says_replaces_all_but_a_kick(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        for reason in Reason:
            mesh = new_mesh()
            await site.blocks.add(mesh, reason, detail="as it was")
            await site.said()
            if reason is Reason.KICKED:
                error = await site.refused("Block", "sts", mesh, 0, "")
                assert error.code is Code.BLOCKED
                assert f"mesh {mesh} is blocked already: the bot was kicked: as it was" in error.message
                assert await site.said("Blocked") == []
            else:
                await site.ask("Block", "sts", mesh, HOUR, "as it is")
                assert await site.said("Blocked") == [("Blocked", mesh, "operator", START + HOUR, "as it is", "ann")]
            block = site.blocks.get(mesh)
            assert block
            assert block.reason is (Reason.KICKED if reason is Reason.KICKED else Reason.OPERATOR)


async def test_the_words_of_an_operator_are_made_fit(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        site.access.user = "ann\n"
        await site.ask("Block", "sts", MESH, 0, "a\nb\x1b[1m" + "x" * 1000)
        detail = "a?b?[1m" + "x" * 193
        assert await site.said("Blocked") == [("Blocked", MESH, "operator", 0, detail, "ann?")]
        assert site.on_disk()[MESH]["detail"] == detail


# Unblocking.


@pytest.mark.parametrize("reason", Reason)
async def test_an_operator_unblocks_whatever_the_reason(bus_address: str, path: Path, reason: Reason) -> None:
    async with site_on(bus_address, path) as site:
        await site.blocks.add(MESH, reason, detail="as it was")
        await site.said()
        site.access.rights.clear()
        assert await site.ask("Unblock", "s", MESH) == [True]
        assert site.on_disk() == {}
        assert await site.said("Blocked", "Unblocked") == [("Unblocked", MESH, reason.value, "ann")]
        assert await site.ask("Unblock", "s", MESH) == [False]
        assert await site.said("Blocked", "Unblocked") == []
        assert site.access.rights == [("Unblock", PolkitAction.BLOCKLIST)] * 2
        assert [event[1:4] for event in (await site.ask("GetHistory", "s", MESH))[0]] == [
            ["blocked", reason.value, "service"],
            ["unblocked", reason.value, "ann"],
        ]


async def test_the_history_has_the_last_ten_events(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        for number in range(6):
            site.time.seconds = number
            await site.ask("Block", "sts", MESH, 0, str(number))
            await site.ask("Unblock", "s", MESH)
        (events,) = await site.ask("GetHistory", "s", MESH)
        assert [(event[1], event[4]) for event in events] == [
            (what, str(number)) for number in range(1, 6) for what in ("blocked", "unblocked")
        ]
        assert await site.ask("GetHistory", "s", OTHER) == [[]]


# When the file is in trouble.


async def test_what_can_not_be_saved_is_in_force_and_said_to_be_unsafe(bus_address: str, tmp_path: Path) -> None:
    directory = tmp_path / "state"

    async with site_on(bus_address, directory / "blocklist.json") as site:
        error = await site.refused("Block", "sts", *BLOCK)
        assert error.code is Code.BAD_FILE
        assert "done, but the blocklist could not be saved" in error.message
        assert site.blocks.get(MESH)
        assert await site.said("Blocked") == [("Blocked", MESH, "operator", 0, "it is noisy", "ann")]
        values = await site.properties()
        assert values["Total"] == 1
        assert "can't be written: No such file or directory" in values["Error"]
        assert (await site.refused("Unblock", "s", MESH)).code is Code.BAD_FILE
        assert not site.blocks.get(MESH)
        # It is tried again until it works.
        directory.mkdir()
        await until(lambda: site.blocks.save_error is None)
        assert (await site.properties())["Error"] == ""
        await site.ask("Block", "sts", *BLOCK)
        assert site.on_disk().keys() == {MESH}


def test_a_file_that_can_not_be_used_is_replaced_when_an_operator_says_so(
    run: Run, bus_address: str, path: Path
) -> None:
    async def before() -> None:
        async with site_on(bus_address, path) as site:
            await site.blocks.add(MESH, Reason.KICKED)
            await site.blocks.add(OTHER, Reason.HELD)
            error = await site.refused("Restore")
            assert error.code is Code.INVALID_ARGUMENT
            assert "nothing to restore" in error.message

    async def after() -> None:
        async with site_on(bus_address, path) as site:
            assert f"{path} can't be used" in (await site.properties())["Error"]
            assert (await site.refused("Block", "sts", *BLOCK)).code is Code.BLOCKED, "the copy still knows"
            assert (await site.refused("Block", "sts", OTHER, 0, "")).code is Code.BAD_FILE
            with pytest.raises(FileNotFoundError):
                site.on_disk()
            await site.said()
            assert await site.ask("Restore") == [2]
            (changed,) = [said[2] for said in await site.said("PropertiesChanged")]
            assert changed["Error"] == ""
            assert site.on_disk().keys() == {MESH, OTHER}
            assert site.access.rights[-1] == ("Restore", PolkitAction.BLOCKLIST)
            assert (await site.refused("Restore")).code is Code.INVALID_ARGUMENT

    run(before())
    path.write_text("a kick that must not be forgotten")
    run(after())


async def test_a_list_that_is_restored_and_can_not_be_saved_is_still_in_trouble(bus_address: str, path: Path) -> None:
    saved = path.with_name("blocklist.json.saved")
    path.write_text("broken")
    saved.write_text('{"blockedMeshes": {}}')

    async with site_on(bus_address, path) as site:
        # What stands there can't be replaced by a file.
        saved.unlink()
        saved.mkdir()
        assert (await site.refused("Restore")).code is Code.BAD_FILE
        assert "can't be written: Is a directory" in (await site.properties())["Error"]


# Entries of another list.

OLD = START - 86400 * 1_000_000


async def test_entries_of_another_list_are_taken_with_their_times(bus_address: str, path: Path) -> None:
    third = new_mesh()

    async with site_on(bus_address, path) as site:
        entries = [
            # A kick is for ever, whatever else is said.
            (MESH, "kicked", OLD, OLD + HOUR, "known\nfrom the old bot"),
            (OTHER, "connection_failures", OLD, START + HOUR, ""),
            (third, "connection_failures", OLD, START - 1000, ""),
        ]
        assert await site.ask("ImportEntries", "a(sstts)", entries) == [2, 1]
        assert set(site.on_disk()) == {MESH, OTHER}
        assert site.on_disk()[MESH]["blockedUntil"] is None
        assert site.on_disk()[OTHER]["blockedUntil"] == (START + HOUR) // 1000
        assert await site.ask("ListEntries") == [
            [
                [MESH, "kicked", OLD, 0, "known?from the old bot", "ann", 1],
                [OTHER, "connection_failures", OLD, START + HOUR, "", "ann", 1],
            ]
        ]
        assert await site.said("Blocked") == [
            ("Blocked", MESH, "kicked", 0, "known?from the old bot", "ann"),
            ("Blocked", OTHER, "connection_failures", START + HOUR, "", "ann"),
        ]
        assert site.access.rights[0] == ("ImportEntries", PolkitAction.BLOCKLIST)
        before = site.on_disk()
        assert await site.ask("ImportEntries", "a(sstts)", entries) == [0, 1]
        assert await site.ask("ImportEntries", "a(sstts)", []) == [0, 0]
        assert site.on_disk() == before
        assert await site.said("Blocked") == []


async def test_what_is_stronger_here_stays(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        await site.blocks.add(MESH, Reason.KICKED)
        await site.ask("Block", "sts", OTHER, 2 * HOUR, "noisy")
        entries = [(mesh, "connection_failures", OLD, START + 3 * HOUR, "") for mesh in (MESH, OTHER)]
        assert await site.ask("ImportEntries", "a(sstts)", entries) == [0, 0]
        assert await site.ask("ImportEntries", "a(sstts)", [(OTHER, "kicked", OLD, 0, "")]) == [1, 0]
        assert {mesh: entry["reason"] for mesh, entry in site.on_disk().items()} == {
            MESH: "kicked",
            OTHER: "kicked",
        }


async def test_the_times_of_another_list_are_those_of_the_wall(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        # An operator has set the clock a day ahead since the start.
        site.time.wall = 86400.0
        until = START + 25 * HOUR
        entry = (MESH, "crashes", START + 24 * HOUR, until, "")
        assert await site.ask("ImportEntries", "a(sstts)", [entry]) == [1, 0]
        ((listed,),) = await site.ask("ListEntries")
        assert listed[2:4] == [START + 24 * HOUR, until]
        site.time.seconds = 3601.0
        assert not site.blocks.in_force()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("x", "kicked", 0, 0, ""), "is not a mesh id"),
        ((MESH.upper(), "kicked", 0, 0, ""), "is not a mesh id"),
        ((OTHER, "", 0, 0, ""), "'' is no reason (known: connection_failures, kicked, "),
        ((OTHER, "kicked\n", 0, 0, ""), "'kicked?' is no reason"),
    ],
)
async def test_one_bad_entry_and_none_is_taken(bus_address: str, path: Path, entry: Any, words: str) -> None:
    async with site_on(bus_address, path) as site:
        error = await site.refused("ImportEntries", "a(sstts)", [(MESH, "kicked", 0, 0, ""), entry])
        assert error.code is Code.INVALID_ARGUMENT
        assert words in str(error)
        assert not site.blocks.in_force()


async def test_any_time_that_the_bus_can_tell_is_taken(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        entry = (MESH, "gone", 2**64 - 1, 2**64 - 1, "")
        assert await site.ask("ImportEntries", "a(sstts)", [entry]) == [1, 0]
        ((listed,),) = await site.ask("ListEntries")
        assert listed[2:4] == [START, 2**53 * 1000], "it has begun by now"
    async with site_on(bus_address, path) as site:
        assert site.blocks.get(MESH)


async def test_a_hundred_entries_and_no_more(bus_address: str, path: Path) -> None:
    async with site_on(bus_address, path) as site:
        entries = [(new_mesh(), "kicked", OLD, 0, "") for _ in range(100)]
        error = await site.refused("ImportEntries", "a(sstts)", [*entries, entries[0]])
        assert error.code is Code.INVALID_ARGUMENT
        assert "101 entries are too many at once (pass at most 100)" in str(error)
        assert await site.ask("ImportEntries", "a(sstts)", entries) == [100, 0]
        assert len(site.on_disk()) == 100


async def test_entries_that_can_not_be_saved_are_said_to_be_unsafe(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path / "state" / "blocklist.json") as site:
        error = await site.refused("ImportEntries", "a(sstts)", [(MESH, "kicked", OLD, 0, "")])
        assert error.code is Code.BAD_FILE
        assert "done, but the blocklist could not be saved: 1 entry" in error.message
        assert site.blocks.get(MESH)
