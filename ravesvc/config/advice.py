"""What to do about a failure, where that depends on what runs the bots: the service, or one process.

`Config.advice` is one of the two. Code that both of them use names no command by itself: it may not be there.
"""

from __future__ import annotations

from typing import NamedTuple

from ravesvc import names


class Advice(NamedTuple):
    """Hints, or parts of hints. `{file}` stands for the path of what is wrong, `{copy}` for that of a copy.

    Attributes:
        login: how to log the account in.
        restart: how to have another configuration used; `apply` the same for bots that run, which keep theirs.
        identity_check: what tells more about the keys of `client_identity` that are not set.
        no_config: how to get the configuration `{file}`, in `{directory}`.
        all_options: what lists the options of rave.yaml.
        closed_config: what lets the configuration be read; `closed_database` the same for database.json, and
            `closed_authorities` for `tls.ca_file`.
        close_config: what lets no other users read `{file}`.
        start_mesh: what starts `{mesh}`, and ends a hold.
        unblock: what takes an entry out of the blocklist; `block` what puts one in, and `unblock_mesh` what takes
            out that of `{mesh}`.
        restore: how to go on with the blocklist that was saved last, in `{copy}`.
        takeover: how to move the account here from another host.
        claim: where a chat user gets a code to be an admin; `first_admin` the same where there is none yet.
        mesh_log: where the log of the bot of `{mesh}` is.
    """

    login: str
    restart: str
    apply: str
    identity_check: str
    no_config: str
    all_options: str
    closed_config: str
    closed_database: str
    closed_authorities: str
    close_config: str
    start_mesh: str
    unblock: str
    unblock_mesh: str
    block: str
    restore: str
    takeover: str
    claim: str
    first_admin: str
    mesh_log: str


FOR_SERVICE = Advice(
    login="run ravectl login",
    restart="restart rave-orchestrator",
    apply="restart rave-orchestrator and run ravectl roll",
    identity_check="ravectl config check, as root, tells more",
    no_config=f"install -m 640 -g rave {names.SHIPPED_CONFIG_FILE} {{file}}",
    all_options="rave.yaml(5) lists all",
    closed_config="root and the user rave must be able to read it; others try as root",
    closed_database=(
        "it must be a file of root:rave with mode 0640: chown root:rave {file} && chmod 0640 {file}; "
        "others than these two try as root"
    ),
    closed_authorities="root reads it at the start of the service; try as root",
    close_config="chown root:rave {file} && chmod 0640 {file}",
    start_mesh="ravectl start {mesh}",
    unblock="ravectl blocklist remove",
    unblock_mesh="ravectl blocklist remove {mesh}",
    block="ravectl blocklist add",
    restore="run ravectl blocklist restore to go on with what was saved last",
    takeover="ravectl takeover moves it here",
    claim="on the host, ravectl admin claim shows one",
    first_admin="ravectl admin claim, on the host, shows how to be the first",
    mesh_log=f"journalctl -u {names.mesh_unit('{mesh}')}",
)

_CLAIM = "the program shows a code to claim with when it starts at a terminal, and takes --admin USER_ID"
_EDIT = "an edit of blocklist.json as it is now"
_READABLE = "you must be able to read it: chmod u+r {file}, or chown it if it is another user's"

FOR_ONE_PROCESS = Advice(
    login="log in with ravesvc --login EMAIL",
    restart="start ravesvc again",
    apply="start ravesvc again",
    identity_check="ravesvc tells more when it starts",
    no_config="mkdir -p -m 700 {directory}; ravesvc --example-config > {file}",
    all_options="ravesvc --example-config lists all",
    closed_config=_READABLE,
    closed_database=_READABLE,
    closed_authorities=_READABLE,
    close_config="chmod 0600 {file}",
    start_mesh='BotManager.start_room("{mesh}")',
    unblock=_EDIT,
    unblock_mesh='BotManager.unblock("{mesh}")',
    block=_EDIT,
    restore="copy {copy} there, which was saved last",
    takeover="end it there; after a crash its record is void in two minutes",
    claim=_CLAIM,
    first_admin=_CLAIM,
    mesh_log="the log says why",
)
