"""The tagging server: one app for the API, its documentation and the page."""

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
from polytag.serving.web.http import HEADERS, Depends, FastAPI, add_pages, secure, serve

PAGE_HEADERS = {"Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; img-src 'self' blob: data:"}
"""Headers of the page, which shows photos that it holds in memory."""

PAGE_FILES = ("tag.css", "tag.js", "requests.js", "heat.js", "csv.js", "docs.css")

DESCRIPTION = "Send photos, get labels with probabilities. The server does not store photos."


def tagging_app(
    bundles: Mapping[str, Bundle], api_key: str | None = None, host: str = "127.0.0.1", limits: Limits | None = None
) -> FastAPI:
    """Build the app: the API, its documentation and the page.

    Args:
        bundles: models by name. Requests that name no model use the first.
        api_key: key that requests to the API must send; ``None`` admits everyone who can reach the server.
        host: name or address that the app is served on.
        limits: limits on requests.

    Raises:
        BundleError: a bundle is damaged.
        SettingsError: the key contains characters that an HTTP header cannot carry.
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
    # With a key, DNS rebinding gains nothing, and a reverse proxy may use any host name.
    secure(app, host if api_key is None else None)
    app.add_middleware(Measure, metrics=service.metrics)
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
    """Serve until Ctrl-C or SIGTERM. Accepted requests are finished first.

    Args:
        bundles: see `tagging_app`. They are open already, so the engine of the options does not count.
        options: where to listen and whom to admit.
        on_ready: called with the address of the page once the server accepts connections.

    Raises:
        BundleError, SettingsError: see `tagging_app`; also if the host or port cannot be used.
    """
    options, limits = options or ServeOptions(), Limits()
    app = tagging_app(bundles, options.api_key, options.host, limits)
    serve(app, options.host, options.port, on_ready, finish_seconds=int(limits.answer_seconds))
