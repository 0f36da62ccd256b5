"""TLS as Rave's HTTP servers and sockets get it: verified, unless the operator opted out for a host."""

from __future__ import annotations

import functools
import logging
import ssl
from pathlib import Path

from ravesvc.config.worker_options import Tls
from ravesvc.errors import Code, RaveError

_log = logging.getLogger(__name__)


def context(tls: Tls, host: str) -> ssl.SSLContext:
    """A client's context for `host` (a bare name or address), TLS 1.2 at least.

    Each call makes a new one (about 15 kB), so that HTTP, which runs in threads, shares none with a WebSocket on the
    event loop.
    Raises `RaveError` (BadFile) when the configured authorities can't be read.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if _plain(host) in map(_plain, tls.insecure_hosts):
        _warn_insecure(_plain(host))
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif tls.authorities is not None:
        # Checked by those who have read them, see `ravesvc.setup.authorities`.
        made.load_verify_locations(cadata=tls.authorities)
    elif tls.ca_file is not None:
        _load_file(made, tls.ca_file)
    else:
        _load_system(made)
    return made


def failure(host: str, error: ssl.SSLError) -> RaveError:
    """What the operator needs to know about a failed handshake with `host`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return RaveError(
            Code.TLS,
            f"the certificate of {host} is not accepted: {error.verify_message}",
            hint="if its authority is your own, name it in tls.ca_file; also check the host's name and the clock",
            host=host,
        )
    if isinstance(error, ssl.SSLEOFError):
        return RaveError(Code.NETWORK, f"{host} cut the connection while TLS was being set up", host=host)
    return RaveError(
        Code.TLS,
        f"TLS with {host} failed: {error.reason or 'unknown reason'}",
        hint="check that host and port are those of a TLS server",
        host=host,
    )


def _plain(host: str) -> str:
    return host.lower().rstrip(".")


@functools.cache
def _warn_insecure(host: str) -> None:
    """Once for each host, however often we connect to it."""
    _log.warning("the certificate of %s is NOT verified, because tls.insecure_hosts names it", host)


def _load_file(made: ssl.SSLContext, ca_file: str) -> None:
    try:
        made.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as e:
        reason = "it holds no certificate in PEM" if isinstance(e, ssl.SSLError) else e.strerror
        raise RaveError(
            Code.BAD_FILE,
            f"the authorities in {ca_file} can't be read: {reason}",
            hint="tls.ca_file must name a readable file of certificates in PEM",
            file=ca_file,
        ) from e


def _load_system(made: ssl.SSLContext) -> None:
    """The system's authorities, each read when a server's certificate asks for it, where they are laid out for that.

    Reading the whole bundle costs 1.3 MB and 18 ms in every worker, to use one certificate of 140.
    """
    directory = ssl.get_default_verify_paths().capath
    # c_rehash(1) names what OpenSSL can look up: eight hex digits, a dot, a number.
    if directory is not None and any(Path(directory).glob("????????.0")):
        made.load_verify_locations(capath=directory)
    else:
        made.load_default_certs()
