from __future__ import annotations

import os
from pathlib import Path

import pytest

from ravesvc.common import fd_files, text_file
from ravesvc.errors import Code, RaveError


def test_a_file_is_read_up_to_the_bound(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 2048)
    assert text_file.read(file, 2048) == b"x" * 2048
    with pytest.raises(OSError, match="it is larger than 1 KiB"):
        text_file.read(file, 2047)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    for path, words in [
        (tmp_path, "Is a directory"),
        # A plain open() would wait for a writer for ever.
        (tmp_path / "fifo", "it is no regular file"),
        (Path("/dev/zero"), "it is no regular file"),
        (tmp_path / "link", "No such file"),
    ]:
        with pytest.raises(OSError, match=words):
            text_file.read(path, 100)


@pytest.mark.parametrize("content", ["a: ä\r\n".encode(), "\ufeffa: ä\r\n".encode()])
def test_a_byte_order_mark_is_no_part_of_the_text(content: bytes) -> None:
    assert text_file.decode(content) == "a: ä\r\n"


@pytest.mark.parametrize(
    ("encoding", "words"), [("utf-16", "is UTF-16"), ("utf-32", "is UTF-32"), ("latin-1", "is not UTF-8 text")]
)
def test_another_encoding_is_named(encoding: str, words: str) -> None:
    with pytest.raises(RaveError, match=words) as caught:
        text_file.decode("höher-hush".encode(encoding))
    assert caught.value.code is Code.BAD_DATA
    assert caught.value.hint == "save it as UTF-8"
    assert caught.value.__cause__ is None, "which would have the text"


def test_a_file_that_is_handed_over_may_be_of_any_editor_too(tmp_path: Path) -> None:
    file = tmp_path / "store.json"
    file.write_bytes(b"\xef\xbb\xbf{}\r\n")
    with file.open() as opened:
        assert fd_files.read(opened.fileno(), "the file", 100) == "{}\r\n"
    file.write_text("{}", encoding="utf-16")
    with file.open() as opened, pytest.raises(RaveError, match="the file is UTF-16, not UTF-8 text"):
        fd_files.read(opened.fileno(), "the file", 100)
