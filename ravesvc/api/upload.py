"""Sending a picture to where Rave says: a store of files that is not Rave's own, by a URL that allows just that.

The URL is a secret: it alone gives the right to write there.
"""

from __future__ import annotations

from typing import NamedTuple

from ravesvc.api import internet
from ravesvc.api.internet import Internet
from ravesvc.api.transport import HttpRequest
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.picture import Picture
from ravesvc.errors import Code, RaveError

# Seconds for the whole picture.
UPLOAD_TIMEOUT_S = 30.0


class UploadPlace(NamedTuple):
    """Where a picture goes, and the URL where others see it."""

    to: internet.Place
    posting_url: str


def place(answer: Object) -> UploadPlace:
    """What Rave's answer to the wish to send one picture says; raises `RaveError` (BadData), which quotes no URL."""
    entries = json_fields.get_list(answer, "data")
    entry = json_fields.as_object(entries[0] if entries else None, "the place for the picture")
    # Others see it wherever it is: only what we reach ourselves is a matter of trust.
    _url(entry, "postingUrl")
    return UploadPlace(_url(entry, "uploadUrl"), json_fields.get_str(entry, "postingUrl"))


class Uploads:
    """Sends pictures."""

    def __init__(self, hosts: Internet) -> None:
        self._hosts = hosts

    async def send(self, where: UploadPlace, picture: Picture) -> None:
        """Send it, once. Raises `RaveError`: Forbidden, TooLarge, Refused, ServerError; see `HttpTransport.send`."""
        transport = self._hosts.transport(where.to, UPLOAD_TIMEOUT_S)
        # None of Rave's own headers: it is another's server, and the URL says all that it has to know.
        headers = {"Content-Type": picture.mime, "Content-Length": str(picture.size)}
        try:
            answer = await transport.send(HttpRequest("PUT", where.to.target, headers, picture.chunks()))
        finally:
            transport.close()
        if not 200 <= answer.status < 300:
            raise _refusal(where.to.host, answer.status)


def _url(entry: Object, key: str) -> internet.Place:
    if found := internet.parse(json_fields.get_str(entry, key)):
        return found
    raise RaveError(Code.BAD_DATA, f"{key} is no https URL that can be used", key=key)


def _refusal(host: str, status: int) -> RaveError:
    """What an answer of the store means; its words, which may quote the URL, are left out."""
    if status == 413:
        code, words = Code.TOO_LARGE, "finds it too large"
    elif status in (401, 403):
        code, words = Code.FORBIDDEN, "does not let the bot store it"
    elif status >= 500:
        code, words = Code.SERVER_ERROR, "has a problem"
    elif status >= 400:
        code, words = Code.REFUSED, "does not take it"
    else:
        code, words = Code.BAD_DATA, "wants to redirect us, which is not followed"
    return RaveError(code, f"{host} {words} (HTTP {status})", status=status, host=host)
