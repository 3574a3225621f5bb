"""Connections of a server: silent clients are dropped, and no client can use up all connections.

Uvicorn has no timeout for a client that connects and sends nothing. This wraps its protocol: every connection gets a
deadline for its next request, and when there are too many, the one idle for longest makes room for the new one.
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
"""Time limit for a connection to complete the headers of its next request."""

MOST_CONNECTIONS = 500
"""Connections in total. Operating systems often limit a process to about 1,000 open files."""

MOST_PER_ADDRESS = 250
"""Connections from one address. A reverse proxy has one address too, so this is generous."""

_current: ContextVar["Connection"] = ContextVar("connection")
"""The connection whose data is being handled. Uvicorn starts a request's task in this context."""


class Connections:
    """ASGI middleware and protocol factory that together limit connections.

    Use both: ``uvicorn.Config(connections, http=connections.protocol)``.

    Args:
        app: the app to serve.
        crowded: answers requests on connections beyond the limits.
        always: paths that are answered even then.
    """

    def __init__(self, app: ASGIApp, crowded: ASGIApp, always: Collection[str] = ()) -> None:
        self.app, self.crowded, self.always = app, crowded, always
        self._open: dict[str, set[Connection]] = defaultdict(set)

    def protocol(self, **arguments: Any) -> asyncio.Protocol:
        """Make the protocol of one connection; the arguments are Uvicorn's."""
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
        """Register a new connection, and make room for it if there are too many."""
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
        """Forget a connection."""
        self._open[connection.address].discard(connection)
        if not self._open[connection.address]:
            del self._open[connection.address]


def _drop_idle(connections: "Collection[Connection]") -> bool:
    """Abort the connection idle for longest, preferring one that never sent a request; whether there was one."""
    idle = [connection for connection in connections if not connection.requests]
    if idle:
        min(idle, key=lambda connection: (connection.served > 0, connection.since)).abort()
    return bool(idle)


class Connection(asyncio.Protocol):
    """One connection: passes everything on to Uvicorn's protocol, and is aborted when it stays idle.

    Attributes:
        address: the client's IP address.
        requests: requests being answered.
        served: requests answered.
        since: when it became idle, in the event loop's time.
        refused: whether it is beyond the limits.
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
        """Close the connection at once."""
        self._connections.leave(self)
        self._transport.abort()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Suspend the deadline while a request is answered."""
        self.requests += 1
        self._deadline.cancel()
        try:
            yield
        finally:
            self.requests -= 1
            self.served += 1
            self.since = self._loop.time()
            # A pipelined request may already be running. The deadline also limits how long the rest of a refused
            # upload is discarded.
            if not self.requests and not self._transport.is_closing():
                self._deadline = self._loop.call_later(IDLE_SECONDS, self.abort)
