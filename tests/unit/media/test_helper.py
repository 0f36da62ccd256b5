from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ravesvc.common.video import Video
from ravesvc.config.media_settings import MediaSettings
from ravesvc.config.worker_options import Tls
from ravesvc.errors import Code, RaveError
from ravesvc.media import client as client_module
from ravesvc.media import helper as helper_module
from ravesvc.media import messages, wire
from ravesvc.media.client import HelperClient
from ravesvc.media.helper import Helper, HelperSource, Unusable
from tests.unit import fake_youtube as youtube
from tests.unit.api_server import Reply, playing
from tests.unit.authority import Authority
from tests.unit.conftest import run_coroutine, until

VIDEO = Video(provider="youtube", id=youtube.ID, url=f"https://youtu.be/{youtube.ID}", title="Näver", seconds=213.0)


class Answering:
    """A `HelperSource` that does what `answer` says."""

    def __init__(self, answer: Callable[[str], Awaitable[Any]]) -> None:
        self._answer = answer

    async def search(self, words: str) -> Sequence[Video]:
        found: Sequence[Video] = await self._answer(words)
        return found

    async def look_up(self, link: str) -> Video:
        found: Video = await self._answer(link)
        return found

    async def picture(self, provider: str, video_id: str) -> bytes:
        found: bytes = await self._answer(f"{provider} {video_id}")
        return found


def saying(answer: object) -> Answering:
    async def say(_text: str) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Answering(say)


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    listener.listen(16)
    return listener


@asynccontextmanager
async def helping(path: Path, source: HelperSource, users: set[int] | None = None) -> AsyncIterator[HelperClient]:
    with listening(path) as listener:
        helper = Helper(listener, source, {os.geteuid()} if users is None else users)
        serving = asyncio.create_task(helper.serve(60.0))
        try:
            yield HelperClient(str(path))
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def asked(path: Path, source: HelperSource, ask: Callable[[HelperClient], Awaitable[Any]]) -> Any:
    async def body() -> Any:
        async with helping(path, source) as client:
            return await ask(client)

    return run_coroutine(body())


def test_videos_travel_whole(path: Path) -> None:
    assert asked(path, saying([VIDEO] * 3), lambda client: client.search("näver")) == [VIDEO] * 3
    assert asked(path, saying([]), lambda client: client.search("x")) == []
    assert asked(path, saying(VIDEO), lambda client: client.look_up("x")) == VIDEO


def test_a_picture_is_a_sealed_file(path: Path) -> None:
    content = youtube.PNG * 10_000
    descriptor = asked(path, saying(content), lambda client: client.picture("youtube", youtube.ID))
    try:
        assert os.pread(descriptor, len(content) + 1, 0) == content
        for change in (lambda: os.pwrite(descriptor, b"x", 0), lambda: os.truncate(descriptor, 1)):
            with pytest.raises(PermissionError):
                change()
        assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    finally:
        os.close(descriptor)


def test_the_helpers_errors_are_told_in_its_words(path: Path) -> None:
    error = RaveError(Code.RATE_LIMITED, "today's searches are used up", hint="wait")
    with pytest.raises(RaveError, match=r"today's searches are used up \(wait\)") as e:
        asked(path, saying(error), lambda client: client.search("x"))
    assert e.value.code is Code.RATE_LIMITED
    with pytest.raises(RaveError) as e:
        asked(path, Unusable(error), lambda client: client.picture("youtube", "x"))
    assert e.value.code is Code.RATE_LIMITED
    with pytest.raises(RaveError, match="YouTube gives an answer"):
        asked(path, saying(RaveError(Code.BAD_DATA, "YouTube gives an answer")), lambda client: client.look_up("x"))


def test_a_fault_of_the_helper_is_an_incident_in_its_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RaveError, match="that has failed") as e:
        asked(path, saying(ValueError("hush")), lambda client: client.search("x"))
    assert "hush" in caplog.text
    assert f"(error {e.value.incident})" in caplog.text


def test_many_at_once_are_answered(path: Path) -> None:
    async def ask(client: HelperClient) -> None:
        answers = await asyncio.gather(*(client.search(str(number)) for number in range(12)))
        assert answers == [[VIDEO]] * 12

    asked(path, saying([VIDEO]), ask)


def test_another_user_is_refused(path: Path) -> None:
    async def body() -> None:
        async with helping(path, saying([VIDEO]), users={os.geteuid() + 1}) as client:
            with pytest.raises(RaveError) as e:
                await client.search("x")
            assert e.value.code is Code.NOT_RUNNING

    run_coroutine(body())


def test_it_ends_when_it_is_idle_and_what_comes_later_waits(path: Path) -> None:
    async def body() -> None:
        released = asyncio.Event()

        async def slowly(_text: str) -> list[Video]:
            await released.wait()
            return [VIDEO]

        with listening(path) as listener:
            helper = Helper(listener, Answering(slowly), {os.geteuid()})
            serving = asyncio.create_task(helper.serve(0.05))
            asking = asyncio.create_task(HelperClient(str(path)).search("x"))
            await until(lambda: helper._tasks)
            # Long past the idle time: a client waits for an answer.
            await asyncio.sleep(0.15)
            assert not serving.done()
            released.set()
            assert await asking == [VIDEO]
            await serving
            late = asyncio.create_task(HelperClient(str(path)).search("y"))
            await asyncio.sleep(0)
            await Helper(listener, saying([]), {os.geteuid()}).serve(0.1)
            assert await late == []

    run_coroutine(body())


def test_without_a_helper_the_operator_has_to_look(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        for make in (lambda: None, lambda: listening(path).close()):
            make()
            with pytest.raises(RaveError, match="helper is not running") as e:
                await HelperClient(str(path)).search("x")
            assert e.value.code is Code.NOT_RUNNING
            assert "systemctl" not in str(e.value)

    run_coroutine(body())
    assert "systemctl status rave-media.socket" in caplog.text


def test_a_helper_that_does_not_answer_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr(client_module, "TIMEOUT_S", 0.05)
        with listening(path), pytest.raises(RaveError, match="did not answer in time") as e:
            await HelperClient(str(path)).search("x")
        assert e.value.code is Code.TIMEOUT

    run_coroutine(body())


def test_a_queue_that_is_full_is_told(path: Path) -> None:
    async def body() -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(str(path))
            listener.listen(0)
            first.connect(str(path))
            with pytest.raises(RaveError, match="too much to do") as e:
                await HelperClient(str(path)).search("x")
            assert e.value.code is Code.BUSY

    run_coroutine(body())


async def raw(path: Path, answer: bytes, descriptors: Sequence[int], ask: Callable[[HelperClient], Any]) -> RaveError:
    """What a client makes of an answer that is written byte by byte."""
    loop = asyncio.get_running_loop()
    with listening(path) as listener:
        listener.setblocking(False)
        asking = asyncio.create_task(ask(HelperClient(str(path))))
        sock, _ = await loop.sock_accept(listener)
        with sock:
            await loop.sock_recv(sock, 100_000)
            with suppress(OSError):
                if answer:
                    sent = socket.send_fds(sock, [answer], list(descriptors)) if descriptors else 0
                    await loop.sock_sendall(sock, answer[sent:])
        with pytest.raises(RaveError) as e:
            await asking
        return e.value


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", Code.NOT_RUNNING),
        (b'{"videos"', Code.NOT_RUNNING),
        (b"\n", Code.BAD_DATA),
        (b"[]\n", Code.BAD_DATA),
        (b"{}\n", Code.BAD_DATA),
        (b'{"videos": [7]}\n', Code.BAD_DATA),
        (b'{"videos": [{"provider": "x"}]}\n', Code.BAD_DATA),
        (json.dumps({"videos": [VIDEO.to_object()] * 11}).encode() + b"\n", Code.BAD_DATA),
        (b'{"error": {"code": "Nonsense", "message": "x"}}\n', Code.BAD_DATA),
        (b'{"error": {}}\n', Code.BAD_DATA),
        (b'{"error": []}\n', Code.BAD_DATA),
        (b"x" * 100_000, Code.BAD_DATA),
        (b'{"videos": []}\n{"videos": []}\n', Code.BAD_DATA),
    ],
)
def test_a_helper_that_lies_is_told_as_such(path: Path, answer: bytes, code: Code) -> None:
    error = run_coroutine(raw(path, answer, (), lambda client: client.look_up("x")))
    assert error.code is code


def test_an_errors_words_are_one_bounded_line(path: Path) -> None:
    said = {"error": {"code": "Timeout", "message": "a\nb" + "x" * 5000, "hint": 7}}
    error = run_coroutine(raw(path, json.dumps(said).encode() + b"\n", (), lambda client: client.search("x")))
    assert (error.code, error.message[:3], len(error.message), error.hint) == (Code.TIMEOUT, "a?b", 300, "")


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("kind", ["none", "unsealed", "file", "size", "pipe", "two", "unasked"])
def test_a_picture_that_is_none_is_closed_and_told(path: Path, tmp_path: Path, kind: str) -> None:
    sealed = helper_module._sealed(b"12345")
    unsealed = os.memfd_create("x", os.MFD_CLOEXEC)
    os.write(unsealed, b"12345")
    file = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    os.write(file, b"12345")
    pipe, other = os.pipe()
    sent = {"none": (), "unsealed": (unsealed,), "file": (file,), "pipe": (pipe,), "two": (sealed, sealed)}
    size = 4 if kind == "size" else 5
    answer = json.dumps({"videos": [], "picture_bytes": size}).encode() + b"\n"
    before = open_descriptors()
    ask: Callable[[HelperClient], Any] = lambda client: client.picture("youtube", "x")  # noqa: E731
    if kind == "unasked":
        ask = lambda client: client.search("x")  # noqa: E731
    error = run_coroutine(raw(path, answer, sent.get(kind, (sealed,)), ask))
    assert error.code is Code.BAD_DATA
    assert open_descriptors() == before
    for each in sealed, unsealed, file, pipe, other:
        os.close(each)


async def said_to(path: Path, request: bytes, descriptors: Sequence[int] = ()) -> bytes:
    """What a helper answers to some bytes, to the end of the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        sock.connect(str(path))
        with suppress(OSError):
            sent = socket.send_fds(sock, [request], list(descriptors)) if descriptors else 0
            await loop.sock_sendall(sock, request[sent:])
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while data := await loop.sock_recv(sock, 65536):
                answer += data
        return answer


@pytest.mark.parametrize(
    "request_line",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"ask": "search"}\n',
        b'{"ask": "search", "text": 7}\n',
        b'{"ask": "delete", "text": "x"}\n',
        b'{"ask": null, "text": "x"}\n',
        b'{"ask": "search", "text": "' + b"x" * 5000 + b'"}\n',
        b"\xff\xfe\n",
        b"[" * 10_000 + b"\n",
    ],
)
def test_a_request_that_is_none_gets_an_error(path: Path, request_line: bytes) -> None:
    async def body() -> None:
        async with helping(path, saying([VIDEO])) as client:
            error = messages.read_answer(await said_to(path, request_line))
            assert isinstance(error, RaveError)
            assert error.code in (Code.BAD_DATA, Code.INVALID_ARGUMENT)
            assert await client.search("x") == [VIDEO]

    run_coroutine(body())


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=200) | st.sampled_from([b'{"ask": "search", "text": "x"}\n', b"\n"]), max_size=12))
def test_no_bytes_end_the_helper(path: Path, requests: list[bytes]) -> None:
    async def body() -> None:
        async with helping(path, saying([VIDEO])) as client:
            for request in requests:
                answer = await said_to(path, request)
                assert answer == b"" or isinstance(json.loads(answer), dict)
            assert await client.search("x") == [VIDEO]

    run_coroutine(body())


def test_descriptors_that_come_with_a_request_are_closed(path: Path) -> None:
    async def body() -> None:
        async with helping(path, saying([VIDEO])) as client:
            before = open_descriptors()
            line = messages.MediaRequest(ask=messages.Ask.SEARCH, text="x").to_bytes()
            assert messages.read_answer(await said_to(path, line, [0])) == messages.MediaReply(videos=[VIDEO])
            assert await said_to(path, line, [0] * 30) == b""
            assert await client.search("x") == [VIDEO]
            assert open_descriptors() == before

    run_coroutine(body())


def test_a_request_that_does_not_end_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper_module, "_TRANSFER_TIMEOUT_S", 0.05)

    async def body() -> None:
        async with helping(path, saying([VIDEO])) as client:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                sock.connect(str(path))
                await asyncio.get_running_loop().sock_sendall(sock, b'{"ask"')
                assert await asyncio.get_running_loop().sock_recv(sock, 10) == b""
            assert await client.search("x") == [VIDEO]

    run_coroutine(body())


class Held:
    """A `HelperSource` whose answers are held back until `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.asked: list[str] = []
        self.under_way = 0
        self.most = 0
        self.source = Answering(self._answer)

    async def _answer(self, text: str) -> list[Video]:
        self.asked.append(text)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.release.wait()
        self.under_way -= 1
        return [VIDEO]


def test_more_connections_than_allowed_wait_for_their_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper_module, "_MAX_CONNECTIONS", 2)

    async def body() -> None:
        held = Held()
        async with helping(path, held.source) as client:
            asking = [asyncio.create_task(client.search(str(number))) for number in range(6)]
            await until(lambda: held.under_way == 2)
            held.release.set()
            assert await asyncio.gather(*asking) == [[VIDEO]] * 6
            assert (held.most, len(held.asked)) == (2, 6)

    run_coroutine(body())


def test_nothing_is_asked_for_a_client_that_has_gone_while_it_waited(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_module, "_MAX_CONNECTIONS", 1)

    async def body() -> None:
        held = Held()
        async with helping(path, held.source) as client:
            first = asyncio.create_task(client.search("first"))
            await until(lambda: held.under_way == 1)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(messages.MediaRequest(ask=messages.Ask.SEARCH, text="gone").to_bytes())
            last = asyncio.create_task(client.search("last"))
            held.release.set()
            assert await asyncio.gather(first, last) == [[VIDEO]] * 2
            assert held.asked == ["first", "last"]

    run_coroutine(body())


def test_a_helper_that_is_ended_while_it_has_too_much_to_do_accepts_no_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_module, "_MAX_CONNECTIONS", 1)

    async def body() -> None:
        held = Held()
        with listening(path) as listener:
            serving = asyncio.create_task(Helper(listener, held.source, {os.geteuid()}).serve(60.0))
            asking = asyncio.create_task(HelperClient(str(path)).search("x"))
            await until(lambda: held.under_way == 1)
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            with pytest.raises(RaveError, match="not running"):
                await asking
            assert not asyncio.get_running_loop().remove_reader(listener)

    run_coroutine(body())


def test_the_user_behind_a_connection() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert wire.peer_user(one) == os.geteuid()


# The program, as systemd starts it.

HANDING = """
import os, sys
names = sys.argv[1]
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(names.split(":"))), "LISTEN_FDNAMES": names}
os.execv(sys.executable, [sys.executable, "-I", "-W", "error", "-m", "ravesvc.media"])
"""


class Program:
    """The helper's process with descriptors from 3 on: a socket, and files."""

    def __init__(self, path: Path, files: dict[str, Path], cache: Path) -> None:
        with listening(path) as listener:
            given = [listener.fileno(), *(os.open(file, os.O_RDONLY) for file in files.values())]
            shell = " ".join(f"{number}<&{fd}" for number, fd in enumerate(given, 3))
            names = ":".join(["socket", *files])
            # sh moves them to where systemd puts them.
            self.process = subprocess.Popen(
                ["bash", "-c", f'exec "$@" {shell}', "-", sys.executable, "-c", HANDING, names],
                pass_fds=given,
                env={**os.environ, "CACHE_DIRECTORY": str(cache)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for each in given[1:]:
                os.close(each)

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def media_settings(authority: Authority, tmp_path: Path) -> Callable[[str], Path]:
    def write(url: str) -> Path:
        file = tmp_path / "media.json"
        made = MediaSettings(
            providers=("youtube", "link"),
            youtube_api=f"{url}/api",
            youtube_oembed=f"{url}/oembed",
            picture_hosts=(url.removeprefix("https://"),),
            youtube_searches_per_day=100,
            key_path="/etc/rave/youtube.key",
            tls=Tls(ca_file=str(authority.ca_file)),
        )
        file.write_text(made.to_json())
        return file

    return write


@pytest.mark.process
def test_the_program_searches_with_the_key_that_it_is_handed(
    authority: Authority, tmp_path: Path, path: Path, media_settings: Callable[[str], Path]
) -> None:
    key = tmp_path / "key"
    key.write_text(f"{youtube.KEY}\n")
    parts = {"/api/search": [youtube.listed(youtube.hit())], "/api/videos": [youtube.listed(youtube.entry())]}
    with playing(authority, {**parts, "/p.png": [Reply(body=youtube.PNG)]}) as server:
        files = {"settings": media_settings(server.url), "youtube-key": key}
        program = Program(path, files, tmp_path)
        try:
            (found,) = run_coroutine(HelperClient(str(path)).search("never"))  # type: ignore[arg-type]
            assert found.title == "Never & ever"
            argv = Path(f"/proc/{program.process.pid}/cmdline").read_text()
            environ = Path(f"/proc/{program.process.pid}/environ").read_text()
        finally:
            status, said = program.end()
    assert (status, said) == (0, "")
    assert youtube.KEY not in argv + environ
    assert server.asked[0].query["key"] == youtube.KEY
    assert (tmp_path / "videos.db").exists()


@pytest.mark.process
@pytest.mark.parametrize("content", [None, "two words here", ""])
def test_the_program_without_a_usable_key(
    authority: Authority, tmp_path: Path, path: Path, media_settings: Callable[[str], Path], content: str | None
) -> None:
    key = tmp_path / "key"
    key.write_text(content or "")
    with playing(authority, {"/oembed": [youtube.embedded()]}) as server:
        files = {"settings": media_settings(server.url)} | ({} if content is None else {"youtube-key": key})
        program = Program(path, files, tmp_path)
        try:
            client = HelperClient(str(path))
            assert run_coroutine(client.look_up(f"https://youtu.be/{youtube.ID}")).title == "Never"  # type: ignore[arg-type]
            with pytest.raises(RaveError, match="key of the YouTube Data API"):
                run_coroutine(client.search("never"))  # type: ignore[arg-type]
        finally:
            status, said = program.end()
    assert status == 0
    assert ("key file of YouTube can't be used" in said) == (content is not None)
    assert "two words" not in said


@pytest.mark.process
@pytest.mark.parametrize("files", [{}, {"settings": "{}"}])
def test_the_program_without_usable_settings_says_so(tmp_path: Path, path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    program = Program(path, {name: tmp_path / name for name in files}, tmp_path)
    try:
        with pytest.raises(RaveError, match="videos can't be looked up") as e:
            run_coroutine(HelperClient(str(path)).search("never"))  # type: ignore[arg-type]
        assert e.value.code is Code.CONFIG
    finally:
        status, said = program.end()
    assert status == 0
    assert "No video can be looked up" in said


@pytest.mark.process
def test_the_program_is_a_service() -> None:
    done = subprocess.run([sys.executable, "-m", "ravesvc.media"], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "systemctl start rave-media.socket" in done.stderr
