from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from watchdog.observers import Observer

from ravesvc.common.atomic_files import write_atomically
from ravesvc.orchestrator.file_watch import FileWatch
from tests.unit.bus_fakes import open_fds
from tests.unit.conftest import until

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched" / "blocklist.json"


def write(path: Path) -> None:
    path.write_text("old")


class Scene:
    """A watch that counts what it notices."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.noticed = 0
        self.watch = FileWatch(path, self._changed)

    def _changed(self) -> None:
        assert asyncio.get_running_loop()
        self.noticed += 1

    async def __aenter__(self) -> Scene:
        await self.watch.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.watch.close()

    async def notices(self, action: Callable[[], object], times: int = 1) -> None:
        before = self.noticed
        action()
        await until(lambda: self.noticed >= before + times)
        assert self.noticed == before + times

    async def ignores(self, *actions: Callable[[], object]) -> None:
        """Events come in order: what is noticed of the last one tells that nothing was of those before."""
        for action in actions:
            action()
        await self.notices(lambda: self.path.write_text("the end"))


async def test_a_file_that_is_written_in_place_is_noticed_each_time(path: Path) -> None:
    async with Scene(path) as scene:
        await scene.notices(lambda: path.write_text("new"))
        await scene.notices(lambda: path.write_text("changed"))


async def test_a_file_is_not_noticed_before_its_writer_has_finished(path: Path) -> None:
    other = path.with_name("other")
    async with Scene(path) as scene, Scene(other) as sentinel:
        with path.open("w") as file:
            file.write("half")
            file.flush()
            await sentinel.notices(lambda: other.write_text("x"))
            assert scene.noticed == 0
        await until(lambda: scene.noticed == 1)


async def test_another_file_that_is_renamed_to_it_is_noticed(path: Path) -> None:
    async with Scene(path) as scene:
        path.with_name("new").write_text("new")
        await scene.notices(lambda: path.with_name("new").rename(path))
        # As we write it ourselves.
        await scene.notices(lambda: write_atomically(path, "ours", 0o600))


async def test_its_removal_is_noticed_by_whatever_means(path: Path, tmp_path: Path) -> None:
    for away in (
        path.unlink,
        lambda: path.rename(path.with_name("blocklist.json~")),
        lambda: path.rename(tmp_path / "elsewhere"),
    ):
        write(path)
        async with Scene(path) as scene:
            await scene.notices(away)


async def test_a_file_that_is_moved_in_from_another_directory_is_noticed(path: Path, tmp_path: Path) -> None:
    async with Scene(path) as scene:
        (tmp_path / "backup").write_text("old")
        await scene.notices(lambda: (tmp_path / "backup").rename(path))


async def test_reading_it_is_nothing_to_tell(path: Path) -> None:
    write(path)
    async with Scene(path) as scene:
        await scene.ignores(path.read_text, lambda: path.chmod(0o644), path.stat)


async def test_another_file_in_the_directory_is_none_of_our_business(path: Path) -> None:
    other, subdirectory = path.with_name("blocklist.json.saved"), path.with_name("blocklist.json.d")
    async with Scene(path) as scene:
        await scene.ignores(
            lambda: other.write_text("x"),
            lambda: other.rename(path.with_name(".blocklist.json")),
            lambda: path.with_name(".blocklist.json").unlink(),
            subdirectory.mkdir,
            lambda: (subdirectory / path.name).write_text("x"),
        )


async def test_a_directory_that_is_missing_only_warns(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = path.parent / "no" / path.name
    async with Scene(missing):
        pass
    assert caplog.messages == [f"Edits of {missing} are noticed at a reload only: No such file or directory"]
    assert caplog.records[0].levelno == logging.WARNING


# One version of watchdog asks the kernel when an observer is made, another when it is started.
@pytest.mark.parametrize("asking", ["__init__", "start"])
async def test_a_machine_that_has_no_watches_left_only_warns(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asking: str
) -> None:
    def refuse(_observer: object, **_options: object) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    with monkeypatch.context() as patch:
        patch.setattr(Observer, asking, refuse)
        async with Scene(path):
            pass
    assert caplog.messages == [f"Edits of {path} are noticed at a reload only: inotify instance limit reached"]


async def test_nothing_stays_open_of_a_watch_that_was_not_begun_or_failed(path: Path) -> None:
    before = open_fds()
    await FileWatch(path, lambda: None).close()
    async with Scene(path.parent / "no" / path.name):
        pass
    assert open_fds() == before


async def test_nothing_is_noticed_after_the_end(path: Path) -> None:
    async with Scene(path) as sentinel:
        async with Scene(path) as scene:
            await scene.notices(lambda: path.write_text("new"))
        # The other one may hear of it later.
        await until(lambda: sentinel.noticed == 1)
        await sentinel.notices(lambda: path.write_text("changed"))
        assert scene.noticed == 1
        assert not scene.watch._observer.is_alive()


async def test_one_that_never_was_started_can_be_closed(path: Path) -> None:
    await Scene(path).watch.close()
