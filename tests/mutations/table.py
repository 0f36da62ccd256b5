"""Promises of ravesvc, each with a change of the source that breaks it, and the tests that must find it.

Choose a promise that users would miss, and the smallest change that breaks it as a slip of an author might.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import NamedTuple


class Mutation(NamedTuple):
    """A change that breaks a promise.

    Attributes:
        promise: what users are promised, in one sentence.
        file: where the change is made, below `ravesvc`.
        text: what is replaced; it occurs once in the file.
        by: what takes its place.
        tests: the file below `tests/unit` of which a quick test must fail.
    """

    promise: str
    file: str
    text: str
    by: str
    tests: str

    @property
    def part(self) -> str:
        """The directory of `ravesvc` that it is in."""
        return PurePath(self.file).parts[0]

    @property
    def in_year(self) -> bool:
        """Whether the simulated year may find it as well."""
        return self.part in ("core", "blocklist")

    def applied(self, source: str) -> str:
        """The file with the change; raises ValueError if the text does not occur exactly once in it."""
        if source.count(self.text) != 1:
            raise ValueError(f"{self.file} has not exactly once: {self.text}")
        return source.replace(self.text, self.by)


MUTATIONS = (
    Mutation(
        "A mesh that has kicked the bot is not joined again.",
        "core/exit_policy.py",
        "    ExitStatus.KICKED: Reason.KICKED,\n",
        "",
        "core/test_exit_policy.py",
    ),
    Mutation(
        "There are never more bots than max_processes, also while one is still stopping.",
        "core/plan.py",
        "present >= limits.total:",
        "present > limits.total:",
        "core/test_plan.py",
    ),
    Mutation(
        "A list of Rave that lacks most meshes stops no bot.",
        "core/inventory.py",
        "if 2 * len(self._lost) > len(known):",
        "if len(self._lost) > len(known):",
        "core/test_inventory.py",
    ),
    Mutation(
        "A bot that does not answer is replaced.",
        "core/health.py",
        "        self._unhealthy(record.mesh)\n",
        "",
        "core/test_health.py",
    ),
    Mutation(
        "A bot that an operator stops by systemctl stays stopped.",
        "core/manual_override.py",
        "            if by_hand:\n                self._blocklist.add(mesh, Reason.HELD, actor=_ACTOR)\n",
        "",
        "orchestrator/test_systemd_runner.py",
    ),
    Mutation(
        "A failure that most meshes share blocks none of them.",
        "core/exit_policy.py",
        "verdict = self._outages.judge(mesh, kind, self._fine(kind))",
        "verdict = None",
        "core/test_exit_policy.py",
    ),
    Mutation(
        "A roll replaces a bot only when the one before is connected again.",
        "core/rolling_restart.py",
        "            if was_connected:\n                await self._wait(record)\n",
        "",
        "core/test_rolling_restart.py",
    ),
    Mutation(
        "Only admins change from a chat what holds for all bots.",
        "core/bot_requests.py",
        "            self._raise_unless_loaded()\n            self._insist_on_admin(actor, mesh, what)\n",
        "            self._raise_unless_loaded()\n",
        "orchestrator/dbus/test_backend.py",
    ),
    Mutation(
        "A block for a time ends at that time.",
        "blocklist/model.py",
        "return self.until is not None and self.until < now",
        "return False",
        "blocklist/test_model.py",
    ),
    Mutation(
        "The blocklist reports a change as saved only when the file has it.",
        "blocklist/blocklist.py",
        "            self._waiting.append(saved)\n",
        "            saved.set_result(True)\n",
        "blocklist/test_blocklist_faults.py",
    ),
    Mutation(
        "systemctl daemon-reload ends no bot.",
        "systemd/unit_monitor.py",
        "if mesh and not self._reloading_now:",
        "if mesh:",
        "systemd/test_unit_monitor.py",
    ),
    Mutation(
        "A mesh whose bot systemd has given up after its crashes is blocked for a while.",
        "systemd/unit_state.py",
        "return self.n_restarts > 0 and (",
        "return self.n_restarts > 99 and (",
        "orchestrator/test_unit_run.py",
    ),
    Mutation(
        "A method on the bus that names no right is open to no caller.",
        "bus/interface.py",
        'raise RaveError(Code.ACCESS_DENIED, f"{call.member} is open to no caller")',
        "return",
        "bus/test_connection.py",
    ),
    Mutation(
        "A program that is no bot of a mesh can't report anything for that mesh.",
        "orchestrator/worker_client.py",
        "if names.mesh_of_unit(unit) == mesh:\n            return True",
        "return True",
        "orchestrator/test_worker_client.py",
    ),
    Mutation(
        "A bot that was taken over and floods systemd is killed.",
        "orchestrator/systemd_runner.py",
        "        if unit.main_pid and unit.suspect:\n            self._kill_taken_over(mesh, unit.suspect)\n",
        "",
        "orchestrator/test_systemd_runner.py",
    ),
    Mutation(
        "One user can't fill the queue of videos.",
        "bot/queue.py",
        "if own >= limits.per_user:",
        "if own > limits.per_user:",
        "bot/test_queue.py",
    ),
    Mutation(
        "A command for admins is run for admins alone.",
        "bot/permissions.py",
        "return self.needed(command) is Permission.USER or user_id in self.admins",
        "return True",
        "bot/test_permissions.py",
    ),
    Mutation(
        "A bot that is kicked ends, and does not connect again.",
        "mesh/reconnect_policy.py",
        "return ExitStatus.KICKED\n        if kind is CloseKind.TOO_LARGE:\n            # The server",
        "return None\n        if kind is CloseKind.TOO_LARGE:\n            # The server",
        "mesh/test_reconnect_policy.py",
    ),
    Mutation(
        "A bot makes no attempt to connect during a pause that Rave has asked another bot for.",
        "mesh/connect_loop.py",
        "            if advice.pause:\n                self._put_off(advice)\n            elif (",
        "            if (",
        "mesh/test_worker.py",
    ),
    Mutation(
        "An owner can't be removed from a chat.",
        "store/cached_store.py",
        "if actor is not None and user in self.owners:",
        "if False:",
        "store/test_cached_store.py",
    ),
    Mutation(
        "In a single process, a bot that keeps crashing is given up after max_process_restarts.",
        "single/task_runner.py",
        "if crashes > self._settings.max_process_restarts:",
        "if crashes > 2 * self._settings.max_process_restarts:",
        "scenarios/test_crashes.py",
    ),
    Mutation(
        "ravectl acts on no mesh when the beginning of an id stands for several.",
        "ctl/operations/mesh_lookup.py",
        "if len(found) == 1:",
        "if found:",
        "ctl/operations/test_mesh_lookup.py",
    ),
    Mutation(
        "A value beyond the bounds of an option is refused.",
        "config/yaml_section.py",
        "    if not least <= value <= most:",
        "    if not least <= value:",
        "config/test_yaml_section.py",
    ),
    Mutation(
        "A message of the bot that a server does not show is sent again in the form that it may show.",
        "room/chat_form.py",
        "return self._trial is None and now >= self._retry_at",
        "return False",
        "room/test_chat_form.py",
    ),
    Mutation(
        "A bot sees from the state of a room alone that it was kicked.",
        "room/room.py",
        "if state.kicked and self.own_user_id in state.kicked:",
        "if False:",
        "room/test_room.py",
    ),
    Mutation(
        "No token goes over a connection without TLS.",
        "api/transport.py",
        'if url.scheme != "https" or not host:',
        "if not host:",
        "api/test_client.py",
    ),
    Mutation(
        "Pictures are fetched from hosts of the provider alone.",
        "media/web.py",
        'host.endswith(f".{name}")',
        "host.endswith(name)",
        "media/test_library.py",
    ),
    Mutation(
        "ravectl config check names a directory that the sandbox hides from the service, also behind a link.",
        "setup/places.py",
        "places = (directory, directory.resolve())",
        "places = (directory,)",
        "setup/test_places.py",
    ),
    Mutation(
        "No text of a stranger controls an operator's terminal.",
        "common/text.py",
        'return found if found.isprintable() else "".join(',
        'return found if found else "".join(',
        "common/test_text.py",
    ),
    Mutation(
        "ravectl doctor finds a clock that is so wrong that Rave refuses requests.",
        "doctor/checks.py",
        "if skew_s is not None and abs(skew_s) > MAX_CLOCK_SKEW_S:",
        "if skew_s is not None and skew_s > MAX_CLOCK_SKEW_S:",
        "doctor/test_checks.py",
    ),
)
