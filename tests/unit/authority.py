"""A throw-away certificate authority and a server certificate from it, made by the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """Files in PEM: the authority's certificate, a server's certificate and its key."""

    ca_file: Path
    cert_file: Path
    key_file: Path


def make_authority(directory: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> Authority:
    """Write a new authority and a server certificate for `names` (a subjectAltName) into `directory`."""
    made = Authority(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    ca_key = directory / "ca.key"
    _openssl(made.ca_file, ca_key, "/CN=throw-away authority", ["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
    signer: list[str | Path] = ["-CA", made.ca_file, "-CAkey", ca_key]
    extensions = [f"subjectAltName={names}", "basicConstraints=critical,CA:FALSE", "keyUsage=digitalSignature"]
    _openssl(made.cert_file, made.key_file, "/CN=server", [*signer, *(w for e in extensions for w in ("-addext", e))])
    return made


def _openssl(certificate: Path, key: Path, subject: str, rest: list[str | Path]) -> None:
    """Make a key and a certificate for it, signed by itself unless `rest` names a signer."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    wanted = ["-keyout", key, "-out", certificate, "-subj", subject]
    subprocess.run(["openssl", "req", "-x509", *curve, *wanted, *rest], check=True, capture_output=True)
