"""The files outside the Python package spell the same names, numbers and options as the package."""

import importlib.resources
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import ravesvc
from ravesvc import names
from ravesvc.blocklist.model import Reason
from ravesvc.common import steady_clock, timespan
from ravesvc.common.log_fields import CAUSE_MESSAGE_IDS, MESSAGE_IDS, LogEvent
from ravesvc.config import rave_yaml
from ravesvc.errors import Code
from ravesvc.mesh.confinement import MAX_POLLED
from ravesvc.setup import prepare

ROOT = Path(__file__).parents[2]
MESH = "0a1b2c3d-2222-4333-8444-555555555555"
POLICY = ROOT / "packaging/dbus/org.ravesvc.Rave1.conf"
# Those for operators; a mesh has properties alone.
INTERFACES_WITH_METHODS = {
    names.MANAGER_INTERFACE,
    names.ACCOUNT_INTERFACE,
    names.PERMISSIONS_INTERFACE,
    names.STORE_INTERFACE,
    names.BLOCKLIST_INTERFACE,
    names.CANARY_INTERFACE,
}
STANDARD_INTERFACES = {
    f"org.freedesktop.DBus.{name}" for name in ("Introspectable", "ObjectManager", "Peer", "Properties")
}


SERVICES = sorted(file.name for file in (ROOT / "units").glob("*.service"))


def unit(name: str) -> list[tuple[str, str]]:
    """The assignments of a unit file in order, comments and section headers left out."""
    lines = (ROOT / "units" / name).read_text().splitlines()
    return [
        (key, value)
        for key, separator, value in (line.partition("=") for line in lines if line[:1] != "#")
        if separator
    ]


def values(name: str, key: str) -> list[str]:
    return [word for found, value in unit(name) if found == key for word in value.split()]


def value(name: str, key: str) -> str:
    (only,) = [text for found, text in unit(name) if found == key]
    return only


def users() -> set[str]:
    files = (ROOT / "packaging/sysusers").glob("*.conf")
    lines = [line.split() for file in files for line in file.read_text().splitlines()]
    return {words[1] for words in lines if words and words[0] == "u"}


def groups() -> set[str]:
    lines = (ROOT / "packaging/sysusers/rave-orchestrator.conf").read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith("g ")}


def rules() -> list[tuple[str, ET.Element]]:
    """Every allow and deny of the bus policy, with the user, group or context that it is for."""
    root = ET.parse(POLICY).getroot()
    return [
        (policy.get("user") or policy.get("group") or f"({policy.get('context')})", rule)
        for policy in root.iter("policy")
        for rule in policy
    ]


def test_the_catalog_explains_every_event() -> None:
    text = (ROOT / "packaging/catalog/ravesvc.catalog").read_text()
    entries = re.findall(r"^-- ([0-9a-f]{32})\nSubject: (.+)\nDefined-By: ravesvc\n", text, re.M)
    assert sorted(found for found, _ in entries) == sorted({*MESSAGE_IDS.values(), *CAUSE_MESSAGE_IDS.values()})
    assert MESSAGE_IDS.keys() == set(LogEvent)
    assert len({subject for _, subject in entries}) == len(entries)
    causes = {LogEvent.BLOCKED: Reason, LogEvent.NOTHING_STARTS: Code, LogEvent.DISCOVERY_FAILED: Code}
    assert all(cause in set(causes[event]) for event, cause in CAUSE_MESSAGE_IDS)


def test_the_catalog_can_be_compiled(tmp_path: Path) -> None:
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    (directory / "ravesvc.catalog").write_bytes((ROOT / "packaging/catalog/ravesvc.catalog").read_bytes())
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    journalctl = ["journalctl", f"--root={tmp_path}"]
    told = subprocess.run([*journalctl, "--update-catalog"], capture_output=True, text=True, check=True)
    assert told.stderr == ""
    kicked = CAUSE_MESSAGE_IDS[LogEvent.BLOCKED, "kicked"]
    shown = subprocess.check_output([*journalctl, "--dump-catalog", kicked, MESSAGE_IDS[LogEvent.HELD]], text=True)
    assert re.findall("^Subject: (.*)", shown, re.M) == [
        "The bot was kicked from mesh @RAVE_MESH@",
        "Mesh @RAVE_MESH@ is held",
    ]


def test_final_exit_statuses_are_not_restarted() -> None:
    statuses = values("rave-mesh@.service", "RestartPreventExitStatus")
    assert sorted(map(int, statuses)) == sorted(names.FINAL_STATUSES)
    # A unit that ended with success is forgotten, and its exit status with it.
    assert not values("rave-mesh@.service", "SuccessExitStatus")


def test_the_manual_page_lists_every_exit_status() -> None:
    text = (ROOT / "packaging/man/rave-mesh.8").read_text()
    assert {int(number) for number in re.findall(r"^\.It (\d+)$", text, re.M)} == set(names.ExitStatus)


def test_a_bot_is_part_of_the_target_and_not_of_the_parent() -> None:
    assert values("rave-mesh@.service", "PartOf") == [names.TARGET_UNIT]
    assert names.TARGET_UNIT in values("rave-mesh@.service", "After")
    for key in ("BindsTo", "Requires"):
        assert not values("rave-mesh@.service", key)
    assert values("rave-mesh@.service", "Wants") == ["rave-meshes-stop.service"]
    assert value(names.TARGET_UNIT, "StopWhenUnneeded") == "yes"
    assert names.TARGET_UNIT in values(names.ORCHESTRATOR_UNIT, "Wants")
    # A target that an operator stopped alone comes back.
    assert values(names.ORCHESTRATOR_UNIT, "Upholds") == [names.TARGET_UNIT]
    assert value(names.ORCHESTRATOR_UNIT, "StartLimitIntervalSec") == "0"


def test_a_bot_is_handed_files_by_the_names_it_knows() -> None:
    assert values("rave-mesh@.service", "OpenFile") == [
        f"{names.SETTINGS_FILE}:{names.SETTINGS_NAME}:read-only,graceful",
        f"{names.SESSION_FILE}:{names.SESSION_NAME}:read-only,graceful",
    ]
    # A mount for each bot, which every further start has to walk.
    assert not [key for key, _ in unit("rave-mesh@.service") if "Credential" in key]
    tmpfiles = (ROOT / "packaging/tmpfiles/rave-orchestrator.conf").read_text()
    for file in (names.SETTINGS_FILE, names.SESSION_FILE):
        # The parent enters it for the authorities; root alone lists it, and reads what is secret.
        assert re.search(rf"^d +{Path(file).parent} +0710 root rave", tmpfiles, re.M)
    for file in (names.CONFIG_FILE, names.DATABASE_FILE):
        assert re.search(rf"^z +{file} +0640 root rave", tmpfiles, re.M)


def test_of_what_is_the_operators_a_bot_sees_its_commands_alone() -> None:
    directory = Path(names.COMMANDS_DIRECTORY)
    hidden = f"{directory.parent}:ro,mode=0755"
    assert value("rave-mesh@.service", "TemporaryFileSystem") == hidden
    # What is inaccessible could not be opened again below.
    inaccessible = values("rave-mesh@.service", "InaccessiblePaths")
    assert {"-/run/rave", "-/var/lib/rave"} <= set(inaccessible)
    assert not [path for path in inaccessible if path.startswith(("/etc", "-/etc"))]
    assert value("rave-mesh@.service", "BindReadOnlyPaths") == f"-{directory}"
    tmpfiles = (ROOT / "packaging/tmpfiles/rave-orchestrator.conf").read_text()
    assert re.search(rf"^d +{directory} +0755 root root", tmpfiles, re.M)
    # A bot that runs has this very directory before it: dpkg must not take it away at an upgrade.
    assert (ROOT / "debian/rave-orchestrator.dirs").read_text().split() == [str(directory)[1:]]


def test_the_video_helper_is_handed_what_it_needs_and_no_other_is() -> None:
    helper, socket = names.MEDIA_UNIT, names.MEDIA_SOCKET_UNIT
    assert values(helper, "OpenFile") == [
        f"{names.MEDIA_SETTINGS_FILE}:{names.SETTINGS_NAME}:read-only,graceful",
        f"{names.YOUTUBE_KEY_FILE}:{names.YOUTUBE_KEY_NAME}:read-only,graceful",
    ]
    assert value(socket, "ListenStream") == names.MEDIA_SOCKET
    assert value(socket, "FileDescriptorName") == names.MEDIA_SOCKET_NAME
    assert (value(socket, "SocketUser"), value(socket, "SocketMode")) == ("rave", "0600")
    for other in (ROOT / "units").iterdir():
        assert other.name == helper or names.YOUTUBE_KEY_FILE not in other.read_text()
    tmpfiles = (ROOT / "packaging/tmpfiles/rave-orchestrator.conf").read_text()
    assert re.search(rf"^z +{names.YOUTUBE_KEY_FILE} +0600 root root", tmpfiles, re.M)


def test_the_video_helper_comes_and_goes_with_the_parent() -> None:
    helper, socket = names.MEDIA_UNIT, names.MEDIA_SOCKET_UNIT
    assert socket in values(names.ORCHESTRATOR_UNIT, "Wants")
    assert socket in values(names.ORCHESTRATOR_UNIT, "After")
    assert value(socket, "StopWhenUnneeded") == "yes"
    # It reads its settings at its start, and the parent's start writes them.
    assert values(helper, "PartOf") == [names.ORCHESTRATOR_UNIT]
    assert names.ORCHESTRATOR_UNIT in values(helper, "After")
    # Who asks on the socket is told by the number of the user, which a plain "yes" would hide.
    assert value(helper, "PrivateUsers") == "identity"


def test_the_parent_comes_after_the_database_but_does_not_need_it() -> None:
    assert "mongod.service" in values(names.ORCHESTRATOR_UNIT, "After")
    assert [key for key, text in unit(names.ORCHESTRATOR_UNIT) if "mongod" in text] == ["After"]


def test_the_instance_is_never_unescaped() -> None:
    assert value("rave-mesh@.service", "ExecStart").endswith("-m ravesvc.mesh %i")
    assert not [text for _, text in unit("rave-mesh@.service") if "%I" in text]


def test_units_run_as_users_that_the_package_makes() -> None:
    assert len(SERVICES) >= 2
    for service in SERVICES:
        # These have systemd kill bots, read a drop-in or start others, which root alone may.
        as_root = ("rave-kill@", "rave-meshes-stop", "rave-name-servers", "rave-name-servers-changed")
        if service.removesuffix(".service") not in as_root:
            assert value(service, "User") in users()


def test_no_bot_can_signal_another() -> None:
    filters = [text for key, text in unit("rave-mesh@.service") if key == "SystemCallFilter"]
    (denied,) = [text[1:].split() for text in filters[1:] if text.startswith("~") and "kill" in text]
    assert set(denied) == {"kill", "tkill", "tgkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo"}
    # Then it can't abort itself either, and the watchdog has to do it.
    assert timespan.parse(value("rave-mesh@.service", "TimeoutAbortSec")) <= 5


IO_URING = {"io_uring_setup", "io_uring_enter", "io_uring_register"}


def denied_calls(service: str) -> set[str]:
    """The system calls that a unit names in order to deny them."""
    filters = [text for key, text in unit(service) if key == "SystemCallFilter"]
    return {call for text in filters if text.startswith("~") for call in text[1:].split()}


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_a_filter_and_does_not_get_past_it_by_io_uring(service: str) -> None:
    assert values(service, "SystemCallFilter")[0] == "@system-service"
    assert denied_calls(service) >= IO_URING | {"@privileged", "@resources"}
    assert value(service, "SystemCallArchitectures") == "native"
    assert value(service, "CapabilityBoundingSet") == ""


def test_no_bot_opens_a_door_or_meets_another() -> None:
    assert denied_calls("rave-mesh@.service") >= {
        "bind", "listen", "accept", "accept4", "flock", "@keyring", "ptrace", "pidfd_getfd", "process_vm_readv",
        "io_setup", "io_submit",
    }  # fmt: skip
    assert set(values("rave-mesh@.service", "InaccessiblePaths")) >= {"-/dev/shm", "-/dev/mqueue", "-/run/lock"}
    # Threads count as well.
    assert value("rave-mesh@.service", "LimitNPROC") == value("rave-mesh@.service", "TasksMax")
    assert int(value("rave-mesh@.service", "LimitNOFILE")) <= 64


def test_one_bot_takes_a_sixth_of_the_connections_to_the_bus_at_most() -> None:
    """Those that are open, and those that are closed while its threads wait for them."""
    threads = int(value("rave-mesh@.service", "TasksMax"))
    most = int(value("rave-mesh@.service", "LimitNOFILE")) + threads * MAX_POLLED
    assert most < 2047 / 6
    assert f"closed already, {most} in all" in POLICY.read_text()
    assert f"no more than {most} of the 2047 connections" in (ROOT / "packaging/man/rave-mesh.8").read_text()


def test_how_a_bot_has_ended_is_noted_where_the_parent_looks() -> None:
    noting = "rave-ended@.service"
    assert values("rave-mesh@.service", "OnFailure") == [names.ended_unit("%i")]
    assert names.ended_unit("") == noting
    assert f"/var/lib/{value(noting, 'StateDirectory')}" == names.ENDED_DIRECTORY
    assert "%S/rave/ended/%i.${MONITOR_EXIT_STATUS}" in values(noting, "ExecStart")
    # A bot must have no more to do at its start, or when it stops as it is told.
    assert not [key for key, _ in unit("rave-mesh@.service") if key in ("ExecStartPre", "ExecStopPost", "OnSuccess")]


def test_a_bot_that_does_not_stop_is_killed_when_systemd_has_had_its_turn() -> None:
    settings, _ = rave_yaml.read("", "rave.yaml")
    assert settings
    default = f"WAIT={settings.shutdown_timeout + names.STOP_GRACE_S:g}s"
    assert value("rave-meshes-stop.service", "Environment") == default
    assert prepare.stop_drop_in(settings).splitlines()[1:] == ["[Service]", f"Environment={default}"]
    assert prepare.STOP_DROP_IN.parent.name == "rave-meshes-stop.service.d"
    assert value("rave-meshes-stop.service", "PartOf") == names.TARGET_UNIT
    assert (ROOT / "units" / names.kill_unit("")).is_file()


@pytest.mark.parametrize("service", ["rave-mesh@.service", names.ORCHESTRATOR_UNIT, names.MEDIA_UNIT])
def test_no_service_leaves_secrets_in_a_core_file_or_eats_the_machine(service: str) -> None:
    assert value(service, "LimitCORE") == "0"
    assert re.fullmatch(r"\d+M", value(service, "MemoryMax"))


def test_python_loads_nothing_from_the_state_directory() -> None:
    assert "PYTHONNOUSERSITE=1" in values(names.ORCHESTRATOR_UNIT, "Environment")
    assert value("rave-mesh@.service", "ExecStart").split()[1] == "-I"


def test_defaults_in_the_unit_are_those_of_rave_yaml() -> None:
    settings, problems = rave_yaml.read("", "rave.yaml")
    assert settings is not None, problems
    drop_in = dict(line.split("=", 1) for line in prepare.drop_in(settings).splitlines() if re.match(r"\w+=", line))
    assert drop_in
    for key, text in drop_in.items():
        assert timespan.parse(value("rave-mesh@.service", key)) == timespan.parse(text), key


def test_the_drop_in_is_for_the_unit_that_exists() -> None:
    assert prepare.DROP_IN.parent.name == "rave-mesh@.service.d"
    assert (ROOT / "units" / prepare.DROP_IN.parent.name.removesuffix(".d")).is_file()


def test_the_bus_policy_names_our_names() -> None:
    own = {(user, key, text) for user, rule in rules() for key, text in rule.attrib.items() if key.startswith("own")}
    assert own == {
        ("rave", "own", names.BUS_NAME),
        ("rave-mesh", "own_prefix", names.WORKER_NAME_PREFIX),
    }
    assert {rule.get("send_destination") for _, rule in rules()} == {names.BUS_NAME, None}


def test_the_bus_policy_opens_only_what_checks_its_callers() -> None:
    opened = {
        rule.get("send_interface")
        for user, rule in rules()
        if user in ("(default)", "sudo", "adm", "rave-monitor") and rule.get("send_interface")
    }
    assert opened == INTERFACES_WITH_METHODS | STANDARD_INTERFACES
    to_workers = {
        user: rule
        for user, rule in rules()
        if rule.get("send_interface") == names.WORKER_INTERFACE and not rule.get("send_destination")
    }
    assert {user: rule.tag for user, rule in to_workers.items()} == {"rave": "allow", "root": "allow"}
    assert (to_workers["rave"].get("send_type"), to_workers["rave"].get("max_fds")) == ("method_call", "0")


def test_no_signal_reaches_a_bot_but_those_of_the_bus() -> None:
    """The last rule that fits decides."""
    received = [
        (user, rule.tag, dict(rule.attrib))
        for user, rule in rules()
        if any(key.startswith("receive_") for key in rule.attrib)
        and not (rule.tag == "allow" and user in ("root", "sudo", "adm", "rave-monitor"))
    ]
    ours = {"receive_type": "signal", "receive_sender": names.BUS_NAME}
    assert received.pop(0) == ("(default)", "deny", ours)
    assert received == [
        ("rave-mesh", "deny", {"receive_type": "signal"}),
        ("rave-mesh", "allow", {"receive_type": "signal", "receive_sender": "org.freedesktop.DBus"}),
    ]


def test_the_bus_policy_has_nothing_that_dbus_broker_does_not_know() -> None:
    """It leaves out a rule of which it does not know an attribute, and says so at every start."""
    known = {"own", "own_prefix", "min_fds", "max_fds"}
    known |= {f"send_{key}" for key in ("destination", "interface", "member", "path", "type")}
    known |= {f"receive_{key}" for key in ("sender", "interface", "member", "path", "type")}
    assert {key for _, rule in rules() for key in rule.attrib} <= known
    limits = {limit.get("name"): int(limit.text or "") for limit in ET.parse(POLICY).getroot().iter("limit")}
    # Of the bytes that one user's messages may take in all, which it derives from this, it keeps 32 bits. With 2048
    # it keeps nothing, and ends at its start: the machine has no bus.
    assert limits["max_connections_per_user"] * (8 << 20) % 2**32 > 2**31


def test_only_a_bot_and_root_reach_what_is_for_bots() -> None:
    backend = [(user, rule) for user, rule in rules() if rule.get("send_interface") == names.BACKEND_INTERFACE]
    ((user, rule),) = backend
    assert (user, rule.tag, rule.get("send_type"), rule.get("max_fds")) == ("rave-mesh", "allow", "method_call", "0")


def test_signals_and_descriptors_reach_the_parent_from_nobody_but_its_own() -> None:
    """Those of root, which is systemd, and of the bots, in their own interface and without descriptors."""
    default = [rule for user, rule in rules() if user == "(default)" and rule.get("send_destination")]
    denied = [{key: value for key, value in rule.attrib.items() if key != "send_destination"} for rule in default]
    assert denied == [{"send_type": "method_call"}, {"send_type": "signal"}, {"min_fds": "1"}]
    assert {rule.tag for rule in default} == {"deny"}
    signals = [(user, rule) for user, rule in rules() if rule.tag == "allow" and rule.get("send_type") == "signal"]
    ((user, rule),) = signals
    assert (user, rule.get("send_interface"), rule.get("max_fds")) == ("rave-mesh", names.WORKER_INTERFACE, "0")


def test_the_bus_takes_more_connections_in_all_than_of_one_user() -> None:
    limits = {limit.get("name"): int(limit.text or "") for limit in ET.parse(POLICY).getroot().iter("limit")}
    assert limits["max_connections_per_user"] >= 1000
    assert limits["max_completed_connections"] > 2 * limits["max_connections_per_user"]


def test_every_rule_of_the_bus_policy_is_narrow() -> None:
    for user, rule in rules():
        where = ET.tostring(rule, encoding="unicode")
        if any(key.startswith("send_") for key in rule.attrib) and user != "root":
            # The names of the bots have only their beginning in common.
            assert rule.get("send_destination") or rule.get("send_interface") == names.WORKER_INTERFACE, where
        if rule.tag == "deny" and rule.get("send_destination"):
            # Else it would keep replies away from the parent as well.
            assert rule.get("send_type") in ("method_call", "signal") or rule.get("min_fds") == "1", where
        if rule.tag == "allow" and user not in ("root", "rave", "rave-mesh"):
            assert rule.get("send_interface") or rule.get("receive_sender") == names.BUS_NAME, where


def test_the_bus_policy_is_for_users_that_the_package_makes() -> None:
    others = {user for user, _ in rules()} - users() - groups()
    assert others == {"(default)", "root", "sudo", "adm"}, "sudo and adm are in every Debian"


def test_three_groups_may_ask_the_orchestrator_and_nobody_else() -> None:
    allowed: dict[str, list[dict[str, str]]] = {}
    for user, rule in rules():
        if user in ("sudo", "adm", "rave-monitor"):
            assert rule.tag == "allow"
            allowed.setdefault(user, []).append(rule.attrib)
    first, *others = allowed.values()
    assert others == [first, first]
    sent = [rule for rule in first if "send_interface" in rule]
    assert all((rule["send_type"], rule["max_fds"]) == ("method_call", "0") for rule in sent)
    assert {rule["send_interface"] for rule in sent} == INTERFACES_WITH_METHODS | STANDARD_INTERFACES
    default = [rule for user, rule in rules() if user == "(default)"]
    assert {rule.tag for rule in default} == {"deny"}


def test_polkit_knows_the_actions_and_lets_the_parent_ask() -> None:
    root = ET.parse(ROOT / "packaging/polkit/org.ravesvc.Rave1.policy").getroot()
    actions = {action.get("id"): action for action in root.iter("action")}
    assert set(actions) == set(names.PolkitAction)
    for action in actions.values():
        owner = action.find("annotate[@key='org.freedesktop.policykit.owner']")
        assert owner is not None
        assert owner.text == "unix-user:rave"


@pytest.mark.parametrize(
    ("action", "right"),
    [
        (names.PolkitAction.READ, "yes"),
        (names.PolkitAction.OPERATE, "auth_admin_keep"),
        (names.PolkitAction.BLOCKLIST, "auth_admin_keep"),
        (names.PolkitAction.ADMINS, "auth_admin"),
        (names.PolkitAction.CREDENTIALS, "auth_admin"),
    ],
)
def test_what_polkit_demands(action: names.PolkitAction, right: str) -> None:
    root = ET.parse(ROOT / "packaging/polkit/org.ravesvc.Rave1.policy").getroot()
    defaults = root.find(f"action[@id='{action}']/defaults")
    assert defaults is not None
    assert {each.tag: each.text for each in defaults} == dict.fromkeys(
        ("allow_any", "allow_inactive", "allow_active"), right
    )


@pytest.fixture
def polkit_rule() -> str:
    return (ROOT / "packaging/polkit/org.ravesvc.Rave1.rules").read_text()


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (names.mesh_unit(MESH), True),
        (names.mesh_unit(MESH.upper()), False),
        (names.mesh_unit("x"), False),
        (names.mesh_unit(f"{MESH}/../x"), False),
        (f"x{names.mesh_unit(MESH)}", False),
        (f"{names.mesh_unit(MESH)}.d", False),
        (names.mesh_unit(MESH).replace(".service", "xservice"), False),
        (names.ORCHESTRATOR_UNIT, False),
        (names.TARGET_UNIT, False),
        ("ssh.service", False),
    ],
)
def test_the_polkit_rule_is_for_mesh_units(polkit_rule: str, text: str, *, allowed: bool) -> None:
    pattern, killing = re.findall(r"= /(\^.*\$)/;", polkit_rule)
    assert (re.search(pattern, text) is not None) is allowed
    assert (names.mesh_of_unit(text) is not None) is allowed
    assert not re.search(killing, text)


def test_the_polkit_rule_is_for_four_verbs(polkit_rule: str) -> None:
    (verbs,) = re.findall(r"var verbs = \[(.*)\];", polkit_rule)
    assert re.findall(r'"(.*?)"', verbs) == ["start", "stop", "try-restart", "reset-failed"]


def test_the_polkit_rule_lets_bots_be_killed_by_the_unit_for_that_alone(polkit_rule: str) -> None:
    _, killing = re.findall(r"= /(\^.*\$)/;", polkit_rule)
    assert re.search(killing, names.kill_unit(MESH))
    assert not re.search(killing, names.kill_unit("x"))
    assert re.findall(r'kill.test.*"verb"\) === "(.*)"', polkit_rule) == ["start"]


def test_the_polkit_rule_is_not_for_transient_units(polkit_rule: str) -> None:
    (pattern,) = re.findall(
        r'if \(/(.*)/\.test\(action\.lookup\("polkit\.message"\)\)\) \{\n +return .*NOT_HANDLED;', polkit_rule
    )
    # The messages are systemd's.
    assert re.search(pattern, "Authentication is required to start transient unit '$(unit)'.")
    assert not re.search(pattern, "Authentication is required to start '$(unit)'.")
    assert polkit_rule.index("polkit.message") < polkit_rule.index("Result.YES")


# What needrestart makes of these names: it evaluates the files of conf.d, and matches each unit with each pattern.
NEEDRESTART = """
our %nrconf = (override_rc => {});
my $file = shift;
eval do { local(@ARGV, $/) = $file; <> };
die $@ if $@;
foreach my $unit (@ARGV) {
    foreach my $pattern (keys %{$nrconf{override_rc}}) {
        print "$unit $nrconf{override_rc}->{$pattern}\n" if $unit =~ /$pattern/;
    }
}
print join(" ", keys %nrconf);
"""


def test_an_upgrade_of_a_library_restarts_the_parent_but_no_bot() -> None:
    bots = [names.mesh_unit(MESH), names.mesh_unit(MESH).removesuffix(".service"), "rave-mesh@.service"]
    others = [unit.name for unit in (ROOT / "units").iterdir() if unit.name not in bots]
    assert names.ORCHESTRATOR_UNIT in others
    others += [f"x-{names.mesh_unit(MESH)}", "rave-meshx@a.service", "ssh.service"]
    file = ROOT / "packaging/needrestart/rave.conf"
    run = subprocess.run(
        ["perl", "-Mstrict", "-Mwarnings=FATAL,all", "-e", NEEDRESTART, file, *bots, *others],
        check=True,
        capture_output=True,
        text=True,
    )
    # 0: leave it alone, and nothing else is set.
    assert run.stdout.splitlines() == [*(f"{unit} 0" for unit in bots), "override_rc"]
    assert not run.stderr
    installed = (ROOT / "debian/rave-orchestrator.install").read_text()
    assert re.search(r"^packaging/needrestart/rave\.conf +etc/needrestart/conf\.d$", installed, re.M)


def test_the_manual_page_lists_every_file_that_is_for_the_administrator_to_change() -> None:
    page = (ROOT / "packaging/man/rave-orchestrator.8").read_text()
    listed = re.findall(r"^\.It Pa (.*)$", page, re.M)
    lines = [line.split() for line in (ROOT / "debian/rave-orchestrator.install").read_text().splitlines()]
    files = [f"/{words[1]}/{Path(words[0]).name}" for words in lines if words[-1].startswith("etc/")]
    # An upgrade asks about an edited file that a package owns: there is none that is there to be edited.
    assert files == ["/etc/needrestart/conf.d/rave.conf"]
    files += [names.CONFIG_FILE, names.SHIPPED_CONFIG_FILE, f"{names.COMMANDS_DIRECTORY}/greet.py"]
    assert [file for file in files if file not in listed and f"{Path(file).parent}/" not in listed] == []


def test_a_reload_of_the_parent_is_a_command_that_can_fail() -> None:
    # With Type=notify-reload it would be a signal as well, which can't fail.
    assert value(names.ORCHESTRATOR_UNIT, "Type") == "notify"
    assert value(names.ORCHESTRATOR_UNIT, "ExecReload") == f"{value(names.ORCHESTRATOR_UNIT, 'ExecStartPre')} reload"
    # A bot has nothing to read again.
    assert value("rave-mesh@.service", "Type") == "notify"
    assert not values("rave-mesh@.service", "ExecReload")


def test_the_parent_is_told_which_boot_this_is() -> None:
    assert f"{steady_clock.BOOT_ID_VARIABLE}=%b" in values(names.ORCHESTRATOR_UNIT, "Environment")
    # Because it can't see for itself.
    assert value(names.ORCHESTRATOR_UNIT, "ProcSubset") == "pid"


def test_there_is_one_file_to_begin_with() -> None:
    """In the wheel, in the package and among its examples."""
    text = (ROOT / "config/rave.yaml").read_text()
    assert importlib.resources.files("ravesvc").joinpath("rave.yaml").read_text() == text
    installed = (ROOT / "debian/rave-orchestrator.install").read_text()
    assert re.search(
        rf"^config/rave\.yaml +{Path(names.SHIPPED_CONFIG_FILE).parent}$".replace(" +/", " +"), installed, re.M
    )
    linked = (ROOT / "debian/rave-orchestrator.links").read_text().splitlines()
    assert f"{names.SHIPPED_CONFIG_FILE[1:]} usr/share/doc/rave-orchestrator/examples/rave.yaml" in linked
    for script in "preinst", "postinst", "postrm":
        assert names.CONFIG_FILE in (ROOT / f"debian/rave-orchestrator.{script}").read_text()


def test_the_shipped_configuration_shows_the_defaults() -> None:
    text = (ROOT / "config/rave.yaml").read_text()
    default, _ = rave_yaml.read("", "rave.yaml")
    assert rave_yaml.read(text, "rave.yaml") == (default, [])
    # The commented options uncommented are the defaults as well.
    uncommented = re.sub(r"^( *)#(\w+:.*)$", r"\1\2", text, flags=re.M)
    assert rave_yaml.read(uncommented, "rave.yaml") == (default, [])


def test_all_versions_are_one() -> None:
    changelog = (ROOT / "debian/changelog").read_text()
    for_people = (ROOT / "CHANGELOG.md").read_text()
    assert re.match(r"ravesvc \((.*?)\)", changelog)[1] == ravesvc.__version__  # type: ignore[index]
    assert re.search(r"^## \[(\d.*?)\]", for_people, re.M)[1] == ravesvc.__version__  # type: ignore[index]
