"""Start, stop, restart and reset units of systemd, through pystemd in a process of its own.

pystemd never releases the GIL: in our process a systemd that takes its time would stop everything, the watchdog's
feeding included. So its verbs run in one helper process, see `unit_helper`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys

from ravesvc.common import json_fields
from ravesvc.errors import Code, RaveError

_ERRORS = {
    "DBusAccessDeniedError": Code.ACCESS_DENIED,
    "DBusInteractiveAuthorizationRequiredError": Code.ACCESS_DENIED,
    "DBusNoReplyError": Code.TIMEOUT,
    "DBusTimedOutError": Code.TIMEOUT,
    "DBusTimeoutError": Code.TIMEOUT,
}
# Time that a helper needs beyond the time-out of a call: starting, importing pystemd, ending.
_HELPER_GRACE_S = 3.0
# pystemd leaks about 1 kB with each call that fails; a new helper now and then bounds that.
_CALLS_PER_HELPER = 5000


class Units:
    """The verbs, all with mode "replace".

    Each raises `RaveError` with the attribute `unit`: Unit when systemd refuses, AccessDenied when polkit does,
    Timeout when there is no answer in `timeout` seconds. After that the unit may still change. Calls are carried
    out one after another; the time of each one starts when it is sent.
    """

    def __init__(self, *, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._helper: asyncio.subprocess.Process | None = None
        self._calls = 0
        self._closed = False

    async def start(self, unit: str) -> str:
        """Start a unit; returns the object path of the job, whose result says whether it worked."""
        return await self._call("start", unit)

    async def stop(self, unit: str) -> str:
        """Stop a unit; returns the object path of the job."""
        return await self._call("stop", unit)

    async def restart(self, unit: str) -> str:
        """Restart a unit, unless it has ended meanwhile; returns the object path of the job.

        try-restart leaves a failed unit alone, so its exit status can still be read.
        """
        return await self._call("try-restart", unit)

    async def reset_failed(self, unit: str) -> None:
        """Reset a failed unit, and its count of starts."""
        await self._call("reset-failed", unit)

    async def close(self) -> None:
        """End the helper after its present call; calls that wait for it fail."""
        self._closed = True
        async with self._lock:
            await self._end_helper(_HELPER_GRACE_S)

    async def _call(self, verb: str, unit: str) -> str:
        async with self._lock:
            if self._closed:
                raise RaveError(Code.UNIT, f"cannot {verb} {unit}: this service is ending", unit=unit)
            try:
                async with asyncio.timeout(self._timeout + _HELPER_GRACE_S):
                    answer = await self._ask(await self._running_helper(), verb, unit)
            except TimeoutError as e:
                await self._end_helper(0)
                raise RaveError(Code.TIMEOUT, f"no answer to {verb} {unit}: the helper hangs", unit=unit) from e
            except (OSError, EOFError) as e:
                await self._end_helper(0)
                raise RaveError(Code.UNIT, f"no answer to {verb} {unit}: the helper ended", unit=unit) from e
        if "error" in answer:
            error, text = json_fields.get_str(answer, "error"), json_fields.get_str(answer, "text")
            code = _ERRORS.get(error, Code.UNIT)
            raise RaveError(code, f"cannot {verb} {unit}: {text} ({error})", unit=unit, error_name=error)
        return json_fields.get_str(answer, "job")

    async def _ask(self, helper: asyncio.subprocess.Process, verb: str, unit: str) -> json_fields.Object:
        assert helper.stdin
        assert helper.stdout
        self._calls += 1
        helper.stdin.write(json.dumps({"id": self._calls, "verb": verb, "unit": unit}).encode() + b"\n")
        await helper.stdin.drain()
        while line := await helper.stdout.readline():
            answer = json_fields.parse_object(line, "the helper's answer")
            # A smaller id is the answer to a call that has timed out.
            if json_fields.get_int(answer, "id") == self._calls:
                return answer
        raise EOFError

    async def _running_helper(self) -> asyncio.subprocess.Process:
        if self._helper and (self._helper.returncode is not None or self._calls >= _CALLS_PER_HELPER):
            await self._end_helper(_HELPER_GRACE_S)
        if self._helper is None:
            self._calls = 0
            self._helper = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "ravesvc.systemd.unit_helper"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "SYSTEMD_BUS_TIMEOUT": f"{self._timeout}s"},
            )
        return self._helper

    async def _end_helper(self, timeout_s: float) -> None:
        helper, self._helper = self._helper, None
        if helper is None:
            return
        assert helper.stdin
        helper.stdin.close()
        try:
            async with asyncio.timeout(timeout_s):
                await helper.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # it may just have ended
                helper.kill()
            await helper.wait()
