from __future__ import annotations

import asyncio
import base64
import os
import socket
import threading
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.common.picture import MAX_BYTES, Picture, examine
from ravesvc.errors import Code, RaveError

# Each 9 x 16 pixels, as an image library wrote it.
FILES = {
    "jpeg": (
        "image/jpeg",
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0"
        "Hyc5PTgyPC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy"
        "MjL/wgARCAAQAAkDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAb/xAAVAQEBAAAAAAAAAAAAAAAAAAAAAf/aAAwDAQACEAMQ"
        "AAABgAn/xAAUEAEAAAAAAAAAAAAAAAAAAAAg/9oACAEBAAEFAh//xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oACAEDAQE/AX//xAAUEQEA"
        "AAAAAAAAAAAAAAAAAAAA/9oACAECAQE/AX//xAAUEAEAAAAAAAAAAAAAAAAAAAAg/9oACAEBAAY/Ah//xAAUEAEAAAAAAAAAAAAAAAAA"
        "AAAg/9oACAEBAAE/IR//2gAMAwEAAgADAAAAEA//xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oACAEDAQE/EH//xAAUEQEAAAAAAAAAAAAA"
        "AAAAAAAA/9oACAECAQE/EH//xAAUEAEAAAAAAAAAAAAAAAAAAAAg/9oACAEBAAE/EB//2Q==",
    ),
    "png": (
        "image/png",
        "iVBORw0KGgoAAAANSUhEUgAAAAkAAAAQCAIAAABLKsIUAAAAFklEQVR4nGNkZGJmwAGYcEmMyg0aOQAoMgAm4a0kRgAAAABJRU5ErkJggg==",
    ),
    "gif": (
        "image/gif",
        "R0lGODdhCQAQAIEAAAECAwAAAAAAAAAAACwAAAAACQAQAAAIFgABCBxIsKDBgwgTKlzIsKHDhxARBgQAOw==",
    ),
    "lossy webp": ("image/webp", "UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoJABAAAUAmJaQAA3AA/v0gUAA="),
    "lossless webp": ("image/webp", "UklGRiAAAABXRUJQVlA4TBQAAAAvCMADAAdQgVQIIAAKmv7HiIj+Bw=="),
    "extended webp": (
        "image/webp",
        "UklGRkIAAABXRUJQVlA4WAoAAAAgAAAACAAADwAASUNDUAQAAAB4eHh4VlA4IBgAAAAwAQCdASoJABAAAUAmJaQAA3AA/v0gUAA=",
    ),
}
CONTENTS = {name: base64.b64decode(text) for name, (_, text) in FILES.items()}
PNG = CONTENTS["png"]


def png(width: int, height: int) -> bytes:
    return PNG[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + PNG[24:]


def jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


FRAME = segment(0xC0, b"\x08" + (480).to_bytes(2, "big") + (640).to_bytes(2, "big") + b"\x03")


def refused(source: bytes | int) -> RaveError:
    with pytest.raises(RaveError) as caught:
        Picture(source)
    return caught.value


def is_picture_or_refused(contents: bytes) -> None:
    try:
        picture = Picture(contents)
    except RaveError as error:
        refusal = error.code
    else:
        assert 0 < picture.width * picture.height <= 40_000_000
        assert picture.mime in {mime for mime, _ in FILES.values()}
        assert b"".join(picture.chunks()) == contents
        return
    assert refusal in (Code.BAD_DATA, Code.TOO_LARGE)


@pytest.mark.parametrize("name", FILES)
def test_what_a_picture_is(name: str) -> None:
    with Picture(CONTENTS[name]) as picture:
        assert (picture.mime, picture.width, picture.height) == (FILES[name][0], 9, 16)
        assert picture.size == len(CONTENTS[name])
        assert picture.aspect_ratio == "0.56"
        assert b"".join(picture.chunks()) == CONTENTS[name]


@pytest.mark.parametrize("name", FILES)
def test_the_beginning_of_a_picture_is_none(name: str) -> None:
    contents = CONTENTS[name]
    for length in range(9):
        assert refused(contents[:length]).code is Code.BAD_DATA


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"<svg/>",
        b"%PDF-1.7" + bytes(100),
        b"RIFF\x00\x00\x00\x00AVI LIST" + bytes(30),
        b"RIFF\x00\x00\x00\x00WEBPVP8?" + bytes(30),
        png(0, 5),
        png(5, 0),
        jpeg(segment(0xE0, b"JFIF")),
        jpeg(segment(0xDA, b""), FRAME),
        jpeg(b"\xff\xe0\x00\x01", FRAME),
        jpeg(b"\x00", FRAME),
        jpeg(b"\xff" * 5000),
    ],
)
def test_what_is_no_picture(contents: bytes) -> None:
    error = refused(contents)
    assert (error.code, error.message) == (Code.BAD_DATA, "that is no picture in JPEG, PNG, GIF or WebP")


def test_the_size_of_a_jpeg_comes_after_what_else_it_has() -> None:
    profile = [segment(0xE2, bytes(65533))] * 50
    with Picture(jpeg(*profile, b"\xff\xff" + segment(0xC4, b"huff"), FRAME)) as picture:
        assert (picture.width, picture.height) == (640, 480)


def test_no_more_of_a_jpeg_is_looked_at_than_it_takes() -> None:
    reads: list[tuple[int, int]] = []
    contents = jpeg(segment(0xE0, b"") * 2_000_000)

    def read(offset: int, count: int) -> bytes:
        reads.append((offset, count))
        return contents[offset : offset + count]

    with pytest.raises(RaveError):
        examine(read, len(contents))
    assert len(reads) <= 1001
    assert max(count for _, count in reads) <= 32


def test_limits() -> None:
    error = refused(PNG + bytes(MAX_BYTES))
    assert (error.code, error.message) == (Code.TOO_LARGE, "the picture has more than 8 MiB")
    with Picture(PNG + bytes(MAX_BYTES - len(PNG))) as picture:
        assert sum(map(len, picture.chunks())) == MAX_BYTES
    with Picture(png(8000, 5000)):
        pass
    error = refused(png(8000, 5001))
    assert (error.code, error.message) == (Code.TOO_LARGE, "the picture has more than 40 million pixels")
    assert refused(png(2**32 - 1, 2**32 - 1)).code is Code.TOO_LARGE


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.sampled_from(sorted(CONTENTS)), st.data())
def test_damage_is_no_more_than_another_picture_or_none(name: str, data: st.DataObject) -> None:
    contents = bytearray(CONTENTS[name])
    for _ in range(data.draw(st.integers(1, 8))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    del contents[data.draw(st.integers(0, len(contents))) :]
    contents += data.draw(st.binary(max_size=40))
    is_picture_or_refused(bytes(contents))


@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF0000WEBPVP8 ", b"\xff\xd8\xff", b""]), st.binary())
def test_anything_is_a_picture_or_none(head: bytes, rest: bytes) -> None:
    is_picture_or_refused(head + rest)


# From a file.


def memory_file(contents: bytes) -> int:
    descriptor = os.memfd_create("picture")
    os.write(descriptor, contents)
    return descriptor


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_file_is_read_from_its_beginning_and_closed() -> None:
    descriptor = memory_file(PNG + bytes(200_000))
    with Picture(descriptor) as picture:
        chunks = list(picture.chunks())
        assert max(map(len, chunks)) == 64 << 10
        assert b"".join(chunks) == PNG + bytes(200_000)
    assert not is_open(descriptor)
    picture.close()


def test_a_file_that_is_refused_is_closed() -> None:
    descriptor = memory_file(b"<svg/>")
    assert refused(descriptor).code is Code.BAD_DATA
    assert not is_open(descriptor)


def test_what_is_no_file_is_no_picture(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    os.write(writing, PNG)
    for descriptor in (ours.detach(), reading, os.open(tmp_path, os.O_RDONLY)):
        assert refused(descriptor).code is Code.BAD_DATA
        assert not is_open(descriptor)
    theirs.close()
    os.close(writing)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    error = refused(os.open(path, os.O_CREAT | os.O_WRONLY))
    assert (error.code, error.message) == (Code.BAD_DATA, "the picture can't be read: Bad file descriptor")


def test_a_file_that_shrinks_or_grows_while_it_is_sent() -> None:
    descriptor = memory_file(PNG + bytes(200_000))
    with Picture(descriptor) as picture:
        os.write(descriptor, bytes(1000))
        assert sum(map(len, picture.chunks())) == len(PNG) + 200_000
        chunks = picture.chunks()
        next(chunks)
        os.ftruncate(descriptor, 100_000)
        with pytest.raises(RaveError, match="cut short while it was sent"):
            list(chunks)


def test_no_other_file_is_sent_in_its_place_when_it_is_closed_while_it_is_sent() -> None:
    descriptor = memory_file(PNG + bytes(200_000))
    picture = Picture(descriptor)
    chunks = picture.chunks()
    next(chunks)
    picture.close()
    other = memory_file(b"a secret" + bytes(300_000))
    assert other == descriptor, "the number is given away again"
    with pytest.raises(RaveError) as caught:
        list(chunks)
    assert caught.value.code is Code.CLOSED
    os.close(other)


def test_another_thread_may_read_it() -> None:
    async def read() -> bytes:
        return await asyncio.to_thread(lambda: b"".join(picture.chunks()))

    before = threading.active_count()
    with Picture(memory_file(PNG)) as picture:
        assert asyncio.run(read()) == PNG
    assert threading.active_count() == before
