from __future__ import annotations

import logging
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from ravesvc.api import tls
from ravesvc.config.worker_options import Tls
from ravesvc.errors import Code, RaveError
from tests.unit.api_server import serving
from tests.unit.authority import Authority, make_authority


def handshake(port: int, host: str, settings: Tls) -> str | None:
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        tls.context(settings, host).wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        return wrapped.version()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_an_own_authority_is_enough(authority: Authority, host: str) -> None:
    with serving(authority) as server:
        assert handshake(server.port, host, Tls(ca_file=str(authority.ca_file))) == "TLSv1.3"


def test_the_systems_authorities_do_not_know_ours(authority: Authority) -> None:
    with serving(authority) as server, pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(server.port, "localhost", Tls())
    error = tls.failure("localhost", caught.value)
    assert error.code is Code.TLS
    assert "localhost" in error.message
    assert "tls.ca_file" in error.hint


def test_a_wrong_name_is_refused(tmp_path: Path) -> None:
    other = make_authority(tmp_path, "DNS:other.example.test")
    with serving(other) as server, pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(server.port, "localhost", Tls(ca_file=str(other.ca_file)))
    assert "localhost" in tls.failure("localhost", caught.value).message


def test_opting_out_is_for_one_host_and_warned_of_once(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    tls._warn_insecure.cache_clear()
    settings = Tls(insecure_hosts=("LocalHost",))
    with serving(authority) as server:
        assert handshake(server.port, "localhost", settings)
        assert handshake(server.port, "localhost", settings)
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server.port, "127.0.0.1", settings)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "localhost" in warnings[0].getMessage()


def test_old_versions_are_refused(authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert_file, authority.key_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener, context))
        thread.start()
        with pytest.raises(ssl.SSLError) as caught:
            handshake(listener.getsockname()[1], "localhost", Tls(ca_file=str(authority.ca_file)))
        thread.join()
    assert tls.failure("localhost", caught.value).code is Code.TLS


def refuse(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_side=True)


def test_a_connection_cut_in_the_handshake_is_the_networks_fault() -> None:
    assert tls.failure("h", ssl.SSLEOFError(8, "EOF occurred")).code is Code.NETWORK


def test_a_missing_authority_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RaveError) as caught:
        tls.context(Tls(ca_file=str(tmp_path / "none.pem")), "h")
    assert caught.value.code is Code.BAD_FILE
    assert "No such file" in caught.value.message
    assert caught.value.attributes["file"] == str(tmp_path / "none.pem")


def test_an_authority_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    with pytest.raises(RaveError) as caught:
        tls.context(Tls(ca_file=str(tmp_path / "empty.pem")), "h")
    assert "no certificate" in caught.value.message


def hashed(directory: Path, authority: Authority) -> None:
    """Lay out a directory as c_rehash(1) does."""
    name = subprocess.run(
        ["openssl", "x509", "-in", authority.ca_file, "-noout", "-hash"], check=True, capture_output=True, text=True
    ).stdout.strip()
    (directory / f"{name}.0").write_bytes(authority.ca_file.read_bytes())


def test_the_systems_authorities_are_read_when_asked_for(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed(tmp_path, authority)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with serving(authority) as server:
        assert handshake(server.port, "localhost", Tls())
    assert tls.context(Tls(), "localhost").cert_store_stats()["x509_ca"] == 0


def test_a_bundle_serves_where_there_is_no_such_directory(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    with serving(authority) as server:
        assert handshake(server.port, "localhost", Tls())
