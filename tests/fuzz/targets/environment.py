"""Variables of the environment, which the user who starts a program sets."""

from __future__ import annotations

import contextlib
import json
import os
from unittest.mock import patch

from ravesvc import names
from ravesvc.bus.transport import _socket_names
from ravesvc.common import fd_files, steady_clock
from ravesvc.config import proxy
from ravesvc.errors import Code, RaveError
from ravesvc.systemd import notify
from tests.fuzz.rules import check_errors


def check(data: bytes) -> None:
    """What each says is used or refused; a password that names a proxy is quoted nowhere."""
    given = _variables(data)
    with patch.dict(os.environ, given, clear=True):
        interval = notify.watchdog_interval()
        assert interval is None or 0 < interval < 2**64
        with contextlib.suppress(RaveError):
            steady_clock.Clock()
        list(_socket_names(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "")))
    for number in fd_files.handed_over(dict(given), (names.SETTINGS_NAME, names.SESSION_NAME)).values():
        assert number >= 3
    try:
        found = proxy.from_environment(given)
    except RaveError as e:
        check_errors([e])
    if found:
        assert 0 < found.port < 65536
        proxy.bypasses(found, "api.rave.test", 443)
        proxy.connect_request(found, "api.rave.test", 443)


def _variables(data: bytes) -> dict[str, str]:
    """The variables in a JSON object that the kernel would hand to a program."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise RaveError(Code.BAD_DATA, "no JSON") from None
    if not isinstance(found, dict):
        raise RaveError(Code.BAD_DATA, "no variables")
    texts = {name: value for name, value in found.items() if isinstance(value, str)}
    return {
        name: value.encode(errors="replace").decode()
        for name, value in texts.items()
        if name.isascii() and name.isprintable() and "=" not in name and "\0" not in name + value and name
    }
