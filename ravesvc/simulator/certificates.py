"""A throw-away certificate authority and the server's certificate, made with the openssl program.

The authority's key is deleted as soon as the server's certificate is signed. So a program that trusts ca.pem trusts
this one certificate for localhost, and no other can be signed.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from ravesvc.errors import Code, RaveError

CA_FILE = "ca.pem"
CERTIFICATE_FILE = "server.pem"
KEY_FILE = "server.key"
# In the order in which they are renamed into place: once ca.pem is there, the set is complete.
_FILES = {KEY_FILE: 0o600, CERTIFICATE_FILE: 0o644, CA_FILE: 0o644}

_VALID_DAYS = "3650"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
# Both key identifiers are demanded by the strict verification that Python 3.13 has on by default.
_EXTENSIONS = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def exist(directory: Path) -> bool:
    """Whether all files are there."""
    return all((directory / name).exists() for name in _FILES)


def create(directory: Path) -> None:
    """Make authority and certificate in `directory`, replacing old ones; raises `RaveError` (BadFile)."""
    # Deleted first: an interrupted run must not leave an authority next to a certificate that it has not signed.
    (directory / CA_FILE).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as name:
        new = Path(name)
        _sign(new)
        for file, mode in _FILES.items():
            (new / file).chmod(mode)
            (new / file).rename(directory / file)


def _sign(new: Path) -> None:
    (new / "extensions").write_text(_EXTENSIONS)
    _openssl(
        new,
        *("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", CA_FILE, "-days", _VALID_DAYS),
        *("-subj", "/CN=rave-simulator throw-away authority"),
        *("-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    _openssl(new, "req", "-new", *_NEW_KEY, "-keyout", KEY_FILE, "-out", "server.csr", "-subj", "/CN=localhost")
    _openssl(
        new,
        *("x509", "-req", "-in", "server.csr", "-CA", CA_FILE, "-CAkey", "ca.key", "-out", CERTIFICATE_FILE),
        *("-days", _VALID_DAYS, "-extfile", "extensions"),
    )


def _openssl(directory: Path, *arguments: str) -> None:
    try:
        # The program is looked up in PATH as usual, and every argument is ours.
        done = subprocess.run(  # noqa: S603
            ["openssl", *arguments],  # noqa: S607
            cwd=directory,
            umask=0o077,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as e:
        raise RaveError(Code.BAD_FILE, "the openssl program is missing", hint="apt install openssl") from e
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise RaveError(Code.BAD_FILE, f"openssl {arguments[0]} failed: {reason[0]}")
