"""The file that tls.ca_file names: what is taken of it, and what is refused in which words."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.setup import authorities
from tests.unit.authority import Authority


def refused(path: Path) -> RaveError:
    with pytest.raises(RaveError) as caught:
        authorities.read(str(path))
    error = caught.value
    assert error.code is Code.BAD_FILE
    assert error.message.startswith(f"{path} ")
    assert error.attributes == {"file": str(path)}
    return error


def subjects(pem: str) -> list[object]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem)
    return [each["subject"] for each in context.get_ca_certs()]


def test_the_certificates_alone_are_taken(authority: Authority, tmp_path: Path) -> None:
    pem = authority.ca_file.read_text()
    path = tmp_path / "bundle.pem"
    path.write_bytes(("\ufeff# Our authority, größer\n" + pem + "\nIssuer: x\n" + pem).replace("\n", "\r\n").encode())
    found = authorities.read(str(path))
    assert found == (pem.strip() + "\n") * 2
    assert subjects(found) == [((("commonName", "throw-away authority"),),)]


def test_all_authorities_of_the_system_fit() -> None:
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    if not Path(bundle).exists():
        pytest.skip("this machine has no bundle of authorities")
    assert authorities.read(bundle).count("BEGIN CERTIFICATE") == Path(bundle).read_text().count("BEGIN CERTIFICATE")


def test_a_private_key_is_never_handed_on(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "both.pem"
    for kind in "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY":
        path.write_text(f"{authority.ca_file.read_text()}-----BEGIN {kind}-----\naHVzaA==\n-----END {kind}-----\n")
        error = refused(path)
        assert "holds a private key" in error.message
        assert "aHVzaA" not in repr((str(error), error.__cause__, error.__context__))
        assert f"openssl x509 -in {path}" in error.hint


def test_other_forms_are_named_with_what_makes_pem_of_them(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "ca"
    for words in (["-outform", "der"], ["-trustout"]):
        subprocess.run(["openssl", "x509", "-in", authority.ca_file, "-out", path, *words], check=True)
        error = refused(path)
        assert error.hint.startswith("openssl x509 ")
        # What the hint says works.
        made = tmp_path / "made.pem"
        subprocess.run(error.hint.replace("FILE", str(made)).split(), check=True, capture_output=True)
        assert subjects(authorities.read(str(made)))
    path.write_bytes(authority.ca_file.read_text().encode("utf-16"))
    assert "is UTF-16" in refused(path).message


def test_what_is_damaged_is_told(authority: Authority, tmp_path: Path) -> None:
    pem, path = authority.ca_file.read_text(), tmp_path / "ca.pem"
    for content, words in [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("hello", "holds no certificate in PEM"),
        (pem[: len(pem) // 2], "holds no certificate in PEM"),
        (pem + pem[: len(pem) // 2], "cut off or damaged"),
        (pem + pem.replace("M", "N"), "damaged, number 2"),
    ]:
        path.write_text(content)
        assert words in refused(path).message


def test_what_can_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    for path, words in [
        (tmp_path / "none.pem", "can't be read: No such file"),
        (tmp_path / "link", "can't be read: No such file"),
        (tmp_path / "fifo", "can't be read: it is no regular file"),
        (tmp_path, "can't be read: Is a directory"),
        (tmp_path / "none.pem" / "deeper", "can't be read: No such file"),
    ]:
        assert words in refused(path).message


def test_what_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"\n" * (authorities.MAX_FILE_BYTES + 1))
    assert "larger than 512 KiB" in refused(path).message
