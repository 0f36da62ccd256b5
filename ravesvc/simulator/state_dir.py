"""The state directory: certificates that all users may read, and secrets that only its owner may."""

from __future__ import annotations

import os
from pathlib import Path

from ravesvc.common.atomic_files import access_hint
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import certificates
from ravesvc.simulator.account import SimulatedAccount

ACCOUNT_FILE = "account.json"
_OTHER_DIR_HINT = "name another with --state-dir"


class StateDir:
    """The state directory at `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca_file = directory / certificates.CA_FILE
        self.certificate = directory / certificates.CERTIFICATE_FILE
        self.key = directory / certificates.KEY_FILE
        self._account_file = directory / ACCOUNT_FILE

    def init(self) -> None:
        """Make what is missing and keep what is there; raises `RaveError` (BadFile)."""
        try:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not certificates.exist(self.directory):
                certificates.create(self.directory)
            if not self._account_file.exists():
                self._write_account()
        except OSError as e:
            hint = access_hint(self.directory, _OTHER_DIR_HINT) if isinstance(e, PermissionError) else ""
            raise RaveError(Code.BAD_FILE, f"{self.directory} can't be set up: {e.strerror}", hint=hint) from e

    def account(self) -> SimulatedAccount:
        """The account made by `init`; raises `RaveError` (BadFile, BadData)."""
        try:
            return SimulatedAccount.from_json(self._account_file.read_text())
        except OSError as e:
            made = "rave-simulator serve makes it, as do rave-simulator init and rave-simulator.service"
            hint = access_hint(self.directory, _OTHER_DIR_HINT) if isinstance(e, PermissionError) else made
            raise RaveError(Code.BAD_FILE, f"{self._account_file} can't be read: {e.strerror}", hint=hint) from e

    def _write_account(self) -> None:
        new = self._account_file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(SimulatedAccount.generate().to_json())
        new.rename(self._account_file)

    def become_owner(self) -> None:
        """As root, become the owner of the directory for good.

        The service must be able to read what root makes here, and root must not follow names in a directory where
        another user may put symbolic links.
        """
        if os.geteuid() != 0 or not self.directory.exists():
            return
        owner = self.directory.stat()
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
