"""What the shells complete of an answer of the service: ids of meshes, and nothing in it is executed."""

from __future__ import annotations

import atexit
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ravesvc.errors import Code, RaveError

_WRITER = Path(__file__).parents[3] / "packaging/completion/write.py"
_directory = tempfile.TemporaryDirectory()
atexit.register(_directory.cleanup)
_FILES = Path(_directory.name, "files")
subprocess.run([sys.executable, "-I", _WRITER, _FILES], check=True)
_ANSWER = Path(_directory.name, "answer")
# Where the shells are, with nothing in it: what an expansion makes or names is seen.
_PLACE = Path(_directory.name, "place")
_PLACE.mkdir()

_SHELLS = {
    "bash": f"""
        ravectl() {{ cat ../answer; }}
        compopt() {{ :; }}
        source {_FILES}/bash/ravectl
        COMP_WORDS=(ravectl show "") COMP_CWORD=2 COMPREPLY=()
        _ravectl
        (( ${{#COMPREPLY[@]}} )) && printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": f"""
        ravectl() {{ cat ../answer }}
        compadd() {{ shift $argv[(i)--]; print -rl -- "$@" }}
        complete() {{
            local -a words=(ravectl show "")
            local CURRENT=3 PREFIX=
            source {_FILES}/zsh/_ravectl
        }}
        complete
    """,
    "fish": f"""
        function ravectl; cat ../answer; end
        source {_FILES}/fish/ravectl.fish
        complete -C "ravectl show " | string replace --regex '\\t.*' ''
    """,
}
_OPTIONS = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}


def check(data: bytes) -> None:
    """Each reply stands so at the start of a line of the answer."""
    # ravectl prints no NUL, and shells warn of one.
    data = data.replace(b"\0", b"")
    _ANSWER.write_bytes(data)
    completed = [_completed(shell, data) for shell in _SHELLS]
    if not any(completed):
        raise RaveError(Code.BAD_DATA, "no mesh")


def _completed(shell: str, data: bytes) -> list[bytes]:
    words = [shell, *_OPTIONS[shell], "-c", _SHELLS[shell]]
    done = subprocess.run(words, capture_output=True, check=False, cwd=_PLACE)
    assert not done.stderr, done.stderr
    assert not list(_PLACE.iterdir())
    replies = done.stdout.split()
    for reply in replies:
        assert re.fullmatch(rb"[0-9a-f][0-9a-f-]*", reply), reply
        assert re.search(rb"^[ \t]*" + reply + rb"(?![0-9a-f-])", data, re.MULTILINE), reply
    return replies
