"""Which accounts called rave or rave-mesh the installation refuses: its preinst, in a root directory of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PREINST = Path(__file__).parents[2] / "debian/rave-orchestrator.preinst"
OURS = "rave:x:997:997:Rave mesh orchestrator:/var/lib/rave:/usr/sbin/nologin"
LOCKED = "rave:!*:20000::::::"


def preinst(root: Path, *, passwd: str = "", group: str = "", shadow: str = "", action: str = "install") -> str:
    """What a preinst says that refuses; empty for one that does not."""
    (root / "etc").mkdir()
    for name, line in ("passwd", passwd), ("group", group), ("shadow", shadow):
        (root / "etc" / name).write_text(
            f"root:x:0:0::/root:/bin/bash\n{line}\nraven:x:1001:1001::/home/raven:/bin/sh\n"
        )
    run = subprocess.run(
        ["sh", PREINST, action],
        env=os.environ | {"DPKG_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode == 0) == (run.stderr == ""), run.stderr
    return run.stderr


@pytest.mark.parametrize("action", ["install", "upgrade"])
@pytest.mark.parametrize(
    ("passwd", "shadow", "why"),
    [
        ("rave:x:1000:1000:A Person:/home/rave:/bin/bash", "rave:$y$x:1::::::", "UID 1000"),
        ("rave-mesh:x:1000:1000:A Person:/home/rave:/bin/bash", "", "UID 1000"),
        # Locked, and a person's all the same.
        ("rave:x:1000:1000::/var/lib/rave:/usr/sbin/nologin", LOCKED, "UID 1000"),
        ("rave:x:60001:60001::/nonexistent:/usr/sbin/nologin", LOCKED, "UID 60001"),
        ("rave:x:0:0::/root:/usr/sbin/nologin", LOCKED, "UID 0"),
        ("rave:x:998:998::/home/rave:/usr/sbin/nologin", LOCKED, "lives in /home/rave"),
        ("rave:x:998:998::/var/lib/rave:/bin/bash", LOCKED, "with /bin/bash"),
        # What login(1) makes of none.
        ("rave:x:998:998::/var/lib/rave:", LOCKED, "with /bin/sh"),
        ("rave:x:998:998::/var/lib/rave:/usr/sbin/nologin", "rave:$y$x:1::::::", "a password"),
        ("rave:x:998:998::/var/lib/rave:/usr/sbin/nologin", "rave::1::::::", "a password"),
        ("rave::998:998::/var/lib/rave:/usr/sbin/nologin", "", "a password"),
    ],
)
def test_an_account_that_somebody_may_use_is_refused(
    tmp_path: Path, passwd: str, shadow: str, why: str, action: str
) -> None:
    said = preinst(tmp_path, passwd=passwd, shadow=shadow, action=action)
    name = passwd.split(":")[0]
    assert f"rave-orchestrator: a user {name} exists already, and" in said
    assert why in said
    assert said.splitlines()[-1].startswith("Rename it")
    assert "$y$" not in said


@pytest.mark.parametrize(
    ("passwd", "group", "why"),
    [
        # A person who has been renamed, but not their group.
        ("", "rave:x:1000:", "GID 1000"),
        (OURS, "rave:x:1000:", "GID 1000"),
        ("", "rave-mesh:x:1000:", "GID 1000"),
        ("", "rave:x:105:ann,bob", "ann,bob"),
    ],
)
def test_a_group_that_would_open_the_files_is_refused(tmp_path: Path, passwd: str, group: str, why: str) -> None:
    said = preinst(tmp_path, passwd=passwd, group=group, shadow=LOCKED)
    assert f"rave-orchestrator: a group {group.split(':')[0]} exists already, and" in said
    assert why in said
    assert "groupmod --new-name NEW" in said


@pytest.mark.parametrize(
    ("passwd", "shadow", "group"),
    [
        ("", "", ""),
        (OURS, LOCKED, "rave:x:997:"),
        (OURS, "rave:!:20000::::::", "rave:x:997:"),
        # As adduser makes them, and as the administrator has put themselves into the group.
        (OURS.replace("/usr/sbin/nologin", "/bin/false"), "rave:*:20000::::::", "rave:x:997:ann"),
        # A password that is locked.
        (OURS, "rave:!$y$x:20000::::::", ""),
        ("rave-mesh:x:996:996:Rave bots:/:/usr/sbin/nologin", "rave-mesh:!*:20000::::::", "rave-mesh:x:996:"),
        # In no shadow file, as those of a directory service.
        (OURS, "", ""),
    ],
)
def test_our_own_accounts_are_used_again(tmp_path: Path, passwd: str, shadow: str, group: str) -> None:
    for action in "install", "upgrade":
        root = tmp_path / action
        root.mkdir()
        assert preinst(root, passwd=passwd, shadow=shadow, group=group, action=action) == ""
