"""The authorities that `tls.ca_file` names, as text that can be handed on.

Root reads the file once, before the service starts (`ravesvc.setup.prepare`), because neither the service nor the
bots may be able to: it can belong to root alone, or lie in a home directory, which their sandbox hides. What they get
of it are certificates and nothing else.
"""

from __future__ import annotations

import re
import shlex
import ssl

from ravesvc.common import text_file
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.errors import Code, RaveError

# All authorities of a Debian system are 220 kB.
MAX_FILE_BYTES = 512 * 1024

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_BLOCK = re.compile(f"{_BEGIN}[A-Za-z0-9+/=\\s]*{_END}")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
# What a certificate in DER begins with: a sequence whose length takes two bytes.
_DER = b"\x30\x82"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read(path: str, closed: str = FOR_SERVICE.closed_authorities) -> str:
    """The certificates in a file, in PEM, one after another; raises `RaveError` (BadFile), which quotes nothing.

    `closed` is the hint for a file that can't be read, see `Advice`.
    """
    try:
        content = text_file.read(path, MAX_FILE_BYTES)
    except OSError as e:
        hint = ""
        if isinstance(e, PermissionError):
            hint = closed.format(file=shlex.quote(path))
        elif isinstance(e, IsADirectoryError):
            hint = "name one file, such as /etc/ssl/certs/ca-certificates.crt"
        raise _unusable(path, f"can't be read: {e.strerror}", hint) from e
    return certificates(content, path)


def certificates(content: bytes, path: str) -> str:
    """The same of the content of the file at `path`."""
    text = content.decode("latin-1")
    if _PRIVATE_KEY.search(text):
        hint = f"write the certificate to a file of its own: openssl x509 -in {shlex.quote(path)} -out FILE"
        raise _unusable(path, "holds a private key, which the bots must not get", hint)
    blocks = [block.replace("\r", "") for block in _BLOCK.findall(text)]
    if not blocks:
        raise _nothing_in(content, path)
    if len(blocks) < text.count(_BEGIN):
        raise _unusable(path, "holds a certificate that is cut off or damaged", "copy it there once more")
    for number, block in enumerate(blocks, 1):
        if not _is_certificate(block):
            raise _unusable(path, f"holds a certificate that is damaged, number {number}", "copy it there once more")
    return "\n".join(blocks) + "\n"


def _nothing_in(content: bytes, path: str) -> RaveError:
    """Why there is no certificate in PEM, and what to do about it."""
    if content.startswith(_DER):
        return _unusable(
            path, "is a certificate in DER, not in PEM", f"openssl x509 -inform der -in {shlex.quote(path)} -out FILE"
        )
    if content.startswith(_WIDE_MARKS):
        return _unusable(path, "is UTF-16, not PEM", "save it as UTF-8")
    if b"-----BEGIN TRUSTED CERTIFICATE-----" in content:
        return _unusable(
            path, "is in a form that OpenSSL alone reads", f"openssl x509 -in {shlex.quote(path)} -out FILE"
        )
    if not content.strip():
        return _unusable(path, "is empty", "it must hold certificates in PEM")
    return _unusable(path, "holds no certificate in PEM", "it must hold some, each from BEGIN to END CERTIFICATE")


def _is_certificate(block: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=block)
    except ssl.SSLError:
        return False
    return True


def _unusable(path: str, reason: str, hint: str) -> RaveError:
    return RaveError(Code.BAD_FILE, f"{path} {reason}", hint=hint, file=path)
