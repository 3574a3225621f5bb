"""HTTP basics that all pages and APIs share, such as access checks, error responses and running the server.

Every web page that is open in a browser can send requests to servers on the same machine. Therefore, the server accepts
only host names that other sites cannot use (DNS rebinding), accepts changes only from its own pages (CSRF), and does
not allow other sites to embed its responses. Errors are returned as problem details (RFC 9457).
"""

import ipaddress
import json
import logging
import mimetypes
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from polytag.errors import MachineError, SettingsError

_log = logging.getLogger("polytag.serving")

try:
    import uvicorn

    # Other modules import these names from here, so that only one place has to say which package to install.
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

    from polytag.serving.web.connections import Connections
except ImportError:
    raise SettingsError("the web server needs FastAPI and Uvicorn. Install polytag again to get them.") from None

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

DEFAULT_HEADERS = {**HEADERS, "Cache-Control": "no-store"}
"""Headers added to every response, unless the response sets them itself."""

LARGEST_JSON = 64 * 1024
"""Maximum size of a JSON body, in bytes."""


def problem_details(status: int, detail: str) -> dict[str, Any]:
    """Return an error as RFC 9457 problem details."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error as an HTTP response."""
    return JSONResponse(problem_details(status, detail), status, headers, media_type="application/problem+json")


def add_pages(app: FastAPI, files: Mapping[str, str], headers: Mapping[str, str] | None = None) -> None:
    """Add routes that serve files from the folder ``web``.

    Args:
        app: the app, which must not be running yet.
        files: file name for each URL path.
        headers: headers to send with each file.
    """

    def page(name: str) -> Callable[[], Response]:
        content = (resources.files("polytag.serving") / "web" / name).read_bytes()
        kind = f"{mimetypes.guess_type(name)[0]}; charset=utf-8"
        return lambda: Response(content, media_type=kind, headers=headers)

    for path, name in files.items():
        app.get(path, include_in_schema=False)(page(name))
    # Browsers request an icon automatically. An empty response avoids an error in the browser's console.
    app.get("/favicon.ico", include_in_schema=False)(lambda: Response(status_code=204))


def secure(app: FastAPI, host: str | None) -> None:
    """Add security headers, access checks and problem details to an app.

    Args:
        app: the app, which must not be running yet.
        host: host name or address where the app is served. ``None`` accepts any host name, which is safe only if all
            private routes require a key.
    """
    app.add_middleware(Guard, host=host)

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def misunderstood(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))

    @app.exception_handler(MachineError)
    def exhausted(request: Request, error: MachineError) -> JSONResponse:
        # The message may name files of the server, so it is only logged.
        _log.error("%s", error)
        detail = "The server has run out of memory, open files or disk space, or its disk fails. Try again later."
        return problem(503, detail, {"Retry-After": "60"})

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> JSONResponse:
        # This response bypasses all middleware, so the headers are added here.
        return problem(500, "Internal error. See the server's log.", HEADERS)


CROWDED = problem(503, "Too many connections. Try again in a moment.", {**DEFAULT_HEADERS, "Retry-After": "1"})
"""Answer to requests on connections beyond the limits, which do not reach the app."""


class Guard:
    """ASGI middleware that refuses foreign hosts and origins and adds security headers to every response."""

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
            return problem(
                421,
                f"This server does not accept requests for the host name '{host}'. "
                "Use the address that the server printed when it started.",
            )
        origin = headers.get("origin")
        own = origin is None or origin.lower() in (f"http://{host}", f"https://{host}")
        if method not in ("GET", "HEAD") and not own:
            return problem(403, f"Requests from pages on {origin} are not accepted.")
        return None

    def _own(self, host: str) -> bool:
        """Return whether a host is safe from DNS rebinding.

        IP addresses, localhost and the server's own host name are safe. Any other name may belong to an attacker.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in ("localhost", self.host):
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


async def json_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body (a FastAPI dependency).

    The content type must be JSON, because pages on other sites cannot send this type without a CORS preflight request.

    Raises:
        HTTPException: 400 if the body is not valid JSON, 413 if it is too large, 415 if the content type is wrong, and
            422 if the body is not an object.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(415, f"Expected a body of type application/json, got {content_type or 'no type'}.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_JSON:
            raise HTTPException(413, f"The body is larger than {LARGEST_JSON:,} bytes.")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "The body is not valid JSON.") from None
    if not isinstance(content, dict):
        raise HTTPException(422, f"Expected a JSON object, got {type(content).__name__}.")
    return content


def uvicorn_config(app: FastAPI, finish_seconds: int = 5) -> "uvicorn.Config":
    """Configure Uvicorn for an app.

    Args:
        app: the app. Its ``state.crowded``, if set, answers in place of `CROWDED`.
        finish_seconds: time limit for requests in progress when the server stops, in seconds.
    """
    connections = Connections(app, crowded=getattr(app.state, "crowded", CROWDED), always=["/healthz"])
    return uvicorn.Config(
        connections,
        http=connections.protocol,  # type: ignore[arg-type]
        ws="none",
        log_level="error",  # Lower levels log a line for every client that does not speak HTTP.
        server_header=False,
        timeout_graceful_shutdown=finish_seconds,
    )


def serve(
    app: FastAPI,
    host: str,
    port: int,
    on_ready: Callable[[str], object],
    finish_seconds: int = 5,
    share_port: bool = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM. Requests in progress are finished before the server stops.

    Args:
        app: the app to serve.
        host: host name or address to listen on.
        port: port to listen on; 0 selects a free port.
        on_ready: called with the server's address once the server accepts connections.
        finish_seconds: time limit for requests in progress when the server stops, in seconds. A second Ctrl-C stops the
            server immediately.
        share_port: whether other servers may listen on the same port. The system divides connections among them.

    Raises:
        SettingsError: the server cannot listen on this host and port.
    """
    try:
        if not 0 <= port <= 65_535:  # `create_server` would leave its socket open.
            raise OverflowError("a port is a number from 0 to 65535")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, reuse_port=share_port)
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"Cannot listen on {host}, port {port} ({reason}). Choose another --port or --host."
        ) from None
    with listening:
        # The socket is already listening, so clients that connect before the server runs only have to wait a moment.
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn_config(app, finish_seconds)).run(sockets=[listening])
