"""One HTTP request that ends in time. Knows nothing of judges, of retries, or of what the bytes mean.

The standard library's client, because it retries nothing by itself and because its socket can be shut at a given
moment: a limit for each read, which is what clients offer, lets a server that sends a byte now and then hold a
request for ever. Redirects are not followed, since they would carry the key elsewhere; proxies of the environment
are used.
"""

from __future__ import annotations

import functools
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any, NamedTuple

#: A reply with a label is a few hundred bytes; more than this is not read.
MOST_BYTES = 1_000_000


class Reply(NamedTuple):
    """What a server sent."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: str


class Unreachable(Exception):  # noqa: N818, what happened, not whose error it is
    """No reply came: refused, dropped, too slow, no such host, no proof of identity."""


def request(url: str, body: bytes | None, headers: dict[str, str], seconds: float) -> Reply:
    """POST, or GET where there is no body; a reply of any status, or Unreachable after at most so many seconds."""
    limit = _Limit(seconds)
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), _HTTP(limit), _HTTPS(limit)):
        opener.add_handler(handler)
    asked = urllib.request.Request(url, body, headers, method="GET" if body is None else "POST")
    timer = threading.Timer(seconds, limit.end)
    timer.daemon = True
    timer.start()
    try:
        with opener.open(asked, timeout=seconds) as response:
            content = response.read(MOST_BYTES + 1)
            missing = (
                response.length if len(content) <= MOST_BYTES else 0
            )  # a read of so many bytes hides a short reply
            reply = Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, _text(content))
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        # A socket that is shut while it is read fails in whatever way the reader happens to notice it.
        raise Unreachable(f"no reply in {seconds:g} s" if limit.over else _said(error)) from None
    finally:
        timer.cancel()
    if limit.over:
        raise Unreachable(f"no whole reply in {seconds:g} s")
    if missing:
        raise Unreachable(f"the reply broke off, {missing:,} bytes are missing")
    if len(content) > MOST_BYTES:
        raise Unreachable(f"the reply is longer than {MOST_BYTES:,} bytes")
    return reply


class _Limit:
    """Shuts a connection when its time is over."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.sock: socket.socket | None = None

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until

    def end(self) -> None:
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def connection(self, kind: Any, *args: Any, **options: Any) -> Any:
        made = kind(*args, **options)
        connect = made.connect

        @functools.wraps(connect)
        def watched() -> None:
            connect()
            self.sock = made.sock
            if self.over:
                self.end()

        made.connect = watched
        return made


class _HTTP(urllib.request.HTTPHandler):
    def __init__(self, limit: _Limit) -> None:
        super().__init__()
        self.limit = limit

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(functools.partial(self.limit.connection, http.client.HTTPConnection), req)


class _HTTPS(urllib.request.HTTPSHandler):
    def __init__(self, limit: _Limit) -> None:
        super().__init__()
        self.limit = limit

    def https_open(self, req: urllib.request.Request) -> Any:
        kind = functools.partial(self.limit.connection, http.client.HTTPSConnection)
        return self.do_open(kind, req, context=self._context)  # type: ignore[attr-defined]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _said(error: Exception) -> str:
    """The kind of failure; of errors about a header not the text, which may quote the header."""
    if isinstance(error, urllib.error.URLError):
        return _said(error.reason) if isinstance(error.reason, Exception) else str(error.reason)
    if isinstance(error, TimeoutError):
        return "no reply in time"
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or error}"
    return type(error).__name__
