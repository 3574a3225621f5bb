"""The tagging server, an app that serves the API, its documentation and the tagging page."""

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from polytag.models.bundle.bundle import Bundle
from polytag.serving.server.metrics import Measure
from polytag.serving.server.options import ServeOptions, check_key
from polytag.serving.server.routes import add_documentation, add_model_route, add_operations, add_tag_route, key_check
from polytag.serving.server.service import TaggingService
from polytag.serving.server.uploads import Limits
from polytag.serving.web.http import CROWDED, HEADERS, Depends, FastAPI, add_pages, secure, serve

PAGE_HEADERS = {"Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; img-src 'self' blob: data:"}
"""Headers of the page. The image sources are extended because the page shows photos that it holds in memory."""

PAGE_FILES = ("tag.css", "tag.js", "requests.js", "heat.js", "csv.js", "docs.css")

DESCRIPTION = "Send photos and receive labels with probabilities. The server does not store photos."


def tagging_app(
    bundles: Mapping[str, Bundle], api_key: str | None = None, host: str = "127.0.0.1", limits: Limits | None = None
) -> FastAPI:
    """Build the app with the API, its documentation and the tagging page.

    Args:
        bundles: models by name. Requests that do not name a model use the first model.
        api_key: key that requests to the API must send. With ``None``, everyone who can reach the server can use it.
        host: host name or address where the app is served.
        limits: limits on requests; ``None`` for the default limits.

    Raises:
        BundleError: a bundle is damaged.
        SettingsError: the API key cannot be sent in an HTTP header.
    """
    if api_key is not None:
        check_key(api_key)
    limits = limits or Limits()
    service = TaggingService(bundles, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="polytag",
        description=DESCRIPTION,
        version=importlib.metadata.version("polytag"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    # If a key is required, DNS rebinding gains nothing, so any host name is accepted, such as that of a reverse proxy.
    secure(app, host if api_key is None else None)
    app.add_middleware(Measure, metrics=service.metrics)
    app.state.crowded = Measure(CROWDED, service.metrics)
    add_pages(app, {"/": "tag.html"} | {f"/{name}": name for name in PAGE_FILES}, PAGE_HEADERS)
    locked = [] if api_key is None else [Depends(key_check(api_key))]
    refusals = () if api_key is None else (401,)
    add_tag_route(app, service, limits, locked, refusals)
    add_model_route(app, service, locked, refusals)
    add_operations(app, service, locked, refusals)
    add_documentation(app)
    return app


def serve_tagging(
    bundles: Mapping[str, Bundle],
    options: ServeOptions | None = None,
    on_ready: Callable[[str], object] = lambda url: None,
) -> None:
    """Serve until Ctrl-C or SIGTERM. Accepted requests are finished before the server stops.

    Args:
        bundles: see `tagging_app`. The bundles are already open, so the option ``engine`` has no effect.
        options: host, port and API key; ``None`` for the default options.
        on_ready: called with the address of the page once the server accepts connections.

    Raises:
        BundleError: a bundle is damaged.
        SettingsError: the server cannot listen on this host and port, or the API key cannot be sent in an HTTP header.
    """
    options, limits = options or ServeOptions(), Limits()
    app = tagging_app(bundles, options.api_key, options.host, limits)
    serve(app, options.host, options.port, on_ready, int(limits.answer_seconds), options.share_port)
