"""What every page and API that polytag serves shares: who may ask, how errors look, and how serving starts and ends.

A server on one's own machine can be reached by every web page that is open in the same browser. So requests
are answered only under names that no stranger's page can take (DNS rebinding), changes only when they come from
the server's own pages (CSRF), and no other site may embed the answers. Errors are problem details (RFC 9457).
"""

import asyncio
import ipaddress
import json
import mimetypes
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from polytag.errors import SettingsError

try:
    import h11
    import uvicorn

    # Other files take these libraries' names from here, so that one place says what to install.
    from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response  # noqa: F401
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer  # noqa: F401
    from prometheus_client import (  # noqa: F401
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        ProcessCollector,
        generate_latest,
    )
    from pydantic import BaseModel, Field  # noqa: F401
    from python_multipart.exceptions import FormParserError  # noqa: F401
    from python_multipart.multipart import MultipartParser, parse_options_header  # noqa: F401
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.exceptions import HTTPException as StarletteHTTPException
    from starlette.requests import ClientDisconnect  # noqa: F401
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError:
    raise SettingsError("serving pages needs FastAPI and Uvicorn: pip install 'polytag[serve]'") from None

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

DEFAULT_HEADERS = {**HEADERS, "Cache-Control": "no-store"}
"""Of every answer that says nothing else."""

LARGEST_JSON = 64 * 1024
"""Bytes of a JSON body; what is sent here names a thing and an action."""

IDLE_SECONDS = 30
"""How long a connection may stay without a request, from its first byte to the end of its headers."""

MOST_CONNECTIONS = 500
"""Requests on further ones are refused: systems let a process open about 1,000 files."""


def problem_details(status: int, detail: str) -> dict[str, Any]:
    """What went wrong, as RFC 9457 has it; ``detail`` says it in one sentence."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as the answer to a request."""
    return JSONResponse(problem_details(status, detail), status, headers, media_type="application/problem+json")


def add_pages(app: FastAPI, files: Mapping[str, str], headers: Mapping[str, str] | None = None) -> None:
    """Serve files of the folder ``web``.

    Args:
        app: before it serves.
        files: the path of each in an address, and its name.
        headers: sent with each.
    """

    def page(name: str) -> Callable[[], Response]:
        content = (resources.files("polytag.serving") / "web" / name).read_bytes()
        kind = f"{mimetypes.guess_type(name)[0]}; charset=utf-8"
        return lambda: Response(content, media_type=kind, headers=headers)

    for path, name in files.items():
        app.get(path, include_in_schema=False)(page(name))
    # Browsers ask for it by themselves.
    app.get("/favicon.ico", include_in_schema=False)(lambda: Response(status_code=204))


def secure(app: FastAPI, host: str | None) -> None:
    """Give an app the security headers, the checks of who asks, and errors as problem details.

    Args:
        app: before it serves.
        host: the name or address that it will be served on; ``None`` answers to any name, which is safe only where
            every answer that matters needs a key.
    """
    app.add_middleware(Guard, host=host)

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def misunderstood(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> JSONResponse:
        # This answer is made outside of all middleware.
        return problem(500, "something went wrong here; the terminal says what", HEADERS)


CROWDED = problem(503, "too many connections: try again in a moment", {**DEFAULT_HEADERS, "Retry-After": "1"})


class Guard:
    """ASGI middleware: refuses foreign hosts and origins, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, host: str | None) -> None:
        self.app = app
        self.host = host if host is None else host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in DEFAULT_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "").lower()
        if self.host is not None and not self._own(host):
            return problem(421, f"this server does not answer to the name '{host}': use the address that it printed")
        origin = headers.get("origin")
        own = origin is None or origin.lower() in (f"http://{host}", f"https://{host}")
        if method not in ("GET", "HEAD") and not own:
            return problem(403, f"changes are accepted from this server's own pages, not from {origin}")
        return None

    def _own(self, host: str) -> bool:
        """Rebinding needs a name that a stranger controls, so addresses are safe, and so is localhost."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in ("localhost", self.host):
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body (a FastAPI dependency).

    The content type must say JSON, which no form of a foreign page can without the browser asking first.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(415, f"expected a body of type application/json, got {content_type or 'none'}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_JSON:
            raise HTTPException(413, f"the body is larger than {LARGEST_JSON:,} bytes")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not valid JSON") from None
    if not isinstance(content, dict):
        raise HTTPException(422, f"expected a JSON object, got {type(content).__name__}")
    return content


class Connection(H11Protocol):
    """Uvicorn's connection, closed when no request comes: otherwise a client that says nothing holds it for ever.

    Its own answers, to too many connections and to what is no HTTP, are problem details as well.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle = self._idle_timer()

    def data_received(self, data: bytes) -> None:
        self.app = CROWDED if len(self.connections) > MOST_CONNECTIONS else self.config.loaded_app
        super().data_received(data)
        self._stop_timer_if_busy()

    def on_response_complete(self) -> None:
        # Also bounds how long the rest of a body that was refused is swallowed, and how long an answer is read.
        self._idle.cancel()
        self._idle = self._idle_timer()
        super().on_response_complete()
        self._stop_timer_if_busy()  # the next request may have come with the last one

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        answer = problem(
            400, "expected a request in HTTP/1.1, got something else", {**DEFAULT_HEADERS, "Connection": "close"}
        )
        head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers)
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _idle_timer(self) -> asyncio.TimerHandle:
        return self.loop.call_later(IDLE_SECONDS, self.transport.abort)

    def _stop_timer_if_busy(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._idle.cancel()


def serve(app: FastAPI, host: str, port: int, on_ready: Callable[[str], object], finish_seconds: int = 5) -> None:
    """Serve until Ctrl-C or SIGTERM; requests under way are finished first.

    Args:
        app: what to serve.
        host: name or address of this machine to listen on.
        port: 0 takes a free one.
        on_ready: called with the address as soon as it can be opened.
        finish_seconds: how long requests under way may take to finish; a second Ctrl-C does not wait.

    Raises:
        SettingsError: the host or the port cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"cannot listen on {host}, port {port} ({reason}): choose another --port or --host"
        ) from None
    with listening:
        # It listens already: whoever connects before the server runs is kept waiting for a moment, not refused.
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/")
        config = uvicorn.Config(
            app,
            http=Connection,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=finish_seconds,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
