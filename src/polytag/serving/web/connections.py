"""Limit the connections of a server. Silent clients are disconnected, and no client can use up all connections.

Uvicorn has no timeout for clients that connect and send nothing. This module wraps Uvicorn's protocol and gives every
connection a deadline for its next request. If there are too many connections, the one that has been idle the longest is
closed to make room for a new one.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_SECONDS = 30
"""Time limit for receiving the complete headers of the next request on a connection, in seconds."""

MOST_CONNECTIONS = 500
"""Maximum number of connections in total. Operating systems often limit a process to about 1,000 open files."""

MOST_PER_ADDRESS = 250
"""Maximum number of connections from one address. The limit is high because all clients behind a reverse proxy have the
proxy's address."""

_current: ContextVar["Connection"] = ContextVar("connection")
"""The connection whose data is being processed. Uvicorn starts the task of each request in this context."""


class Connections:
    """ASGI middleware and protocol factory that together limit the number of connections.

    Pass both to Uvicorn, as in ``uvicorn.Config(connections, http=connections.protocol)``.

    Args:
        app: the app to serve.
        crowded: app that answers requests on connections beyond the limits.
        always: paths that ``app`` always answers, even on connections beyond the limits.
    """

    def __init__(self, app: ASGIApp, crowded: ASGIApp, always: Collection[str] = ()) -> None:
        self.app, self.crowded, self.always = app, crowded, always
        self._open: dict[str, set[Connection]] = defaultdict(set)

    def protocol(self, **arguments: Any) -> asyncio.Protocol:
        """Create the protocol of one connection. Uvicorn passes the arguments."""
        return Connection(self, H11Protocol(**arguments))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = _current.get(None)
        if scope["type"] != "http" or connection is None:
            await self.app(scope, receive, send)
            return
        with connection.busy():
            refused = connection.refused and scope["path"] not in self.always
            await (self.crowded if refused else self.app)(scope, receive, send)

    def enter(self, connection: "Connection") -> None:
        """Register a new connection, and close idle connections if there are too many."""
        same = self._open[connection.address]
        while len(same) >= MOST_PER_ADDRESS and _drop_idle(same):
            pass
        while (total := sum(map(len, self._open.values()))) >= MOST_CONNECTIONS and _drop_idle(
            {other for some in self._open.values() for other in some}
        ):
            pass
        connection.refused = len(same) >= MOST_PER_ADDRESS or total >= MOST_CONNECTIONS
        self._open[connection.address].add(connection)

    def leave(self, connection: "Connection") -> None:
        """Remove a connection from the register."""
        self._open[connection.address].discard(connection)
        if not self._open[connection.address]:
            del self._open[connection.address]


def _drop_idle(connections: "Collection[Connection]") -> bool:
    """Abort the connection that has been idle the longest, and return whether there was an idle connection.

    Connections that have never sent a request are aborted first.
    """
    idle = [connection for connection in connections if not connection.requests]
    if idle:
        min(idle, key=lambda connection: (connection.served > 0, connection.since)).abort()
    return bool(idle)


class Connection(asyncio.Protocol):
    """A connection that passes everything on to Uvicorn's protocol and is aborted if it stays idle too long.

    Attributes:
        address: IP address of the client.
        requests: number of requests in progress.
        served: number of completed requests.
        since: time when the connection became idle, on the clock of the event loop.
        refused: whether the connection exceeds the limits.
    """

    def __init__(self, connections: Connections, inner: asyncio.Protocol) -> None:
        self._connections, self._inner = connections, inner
        self._loop = asyncio.get_running_loop()
        self.address, self.refused = "", False
        self.requests = self.served = 0
        self.since = self._loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self._deadline = self._loop.call_later(IDLE_SECONDS, self.abort)
        self._connections.enter(self)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        _current.set(self)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._connections.leave(self)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def abort(self) -> None:
        """Close the connection immediately."""
        self._connections.leave(self)
        self._transport.abort()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Suspend the deadline while a request is in progress."""
        self.requests += 1
        self._deadline.cancel()
        try:
            yield
        finally:
            self.requests -= 1
            self.served += 1
            self.since = self._loop.time()
            # A pipelined request may already be in progress. After a refused upload, the server discards the remaining
            # data, and the deadline also limits the time that this takes.
            if not self.requests and not self._transport.is_closing():
                self._deadline = self._loop.call_later(IDLE_SECONDS, self.abort)
