"""The routes of the tagging server."""

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Sequence
from importlib import resources
from typing import Annotated, Any, TypeVar

import jinja2

from polytag.errors import listed
from polytag.serving.server.schema import Health, ModelAnswer, TagAnswer, images_body, problems
from polytag.serving.server.service import TaggingService
from polytag.serving.server.uploads import RETRY, Limits, read_uploads
from polytag.serving.web.http import (
    APIKeyHeader,
    Depends,
    FastAPI,
    Field,
    HTTPAuthorizationCredentials,
    HTTPBearer,
    HTTPException,
    Query,
    Request,
    Response,
)

Result = TypeVar("Result")


def add_tag_route(
    app: FastAPI, service: TaggingService, limits: Limits, locked: Sequence[Any], refusals: Sequence[int]
) -> None:
    """Add ``POST /v1/tag``.

    Args:
        app: the app.
        service: service that answers the requests.
        limits: limits on requests.
        locked: dependencies that check the API key.
        refusals: status codes with which these dependencies refuse a request.
    """
    names = list(service.bundles)
    labels = ["*", *dict.fromkeys(label for bundle in service.bundles.values() for label in bundle.labels)]

    @app.post(
        "/v1/tag",
        dependencies=locked,
        response_model_exclude_unset=True,
        openapi_extra={"requestBody": images_body(limits.photos)},
        responses=problems(400, 403, 404, 408, 413, 415, 422, 503, *refusals),
    )
    async def tag(
        request: Request,
        explain: Annotated[
            list[Annotated[str, Field(json_schema_extra={"enum": labels})]],
            Query(
                default_factory=list,
                description="Labels for which to return a heat map. Use * for every label assigned to the photo.",
            ),
        ],
        model: Annotated[str, Query(description="Model to use.", json_schema_extra={"enum": names})] = names[0],
    ) -> TagAnswer:
        """Tag one or more photos."""
        bundle = service.bundle(model)
        unknown = [label for label in explain if label not in (*bundle.labels, "*")]
        if unknown:
            known = listed(list(bundle.labels), 20)
            raise HTTPException(422, f"explain: {model} has no label {listed(unknown)}. Its labels are {known}.")
        with service.room.share() as take:
            uploads = await read_uploads(request, limits, take)
            work = service.tag(bundle, uploads, explain, connection=request.client)
            return TagAnswer(model=model, images=await _unless_left(request, work))


def add_model_route(app: FastAPI, service: TaggingService, locked: Sequence[Any], refusals: Sequence[int]) -> None:
    """Add ``GET /v1/model``; see `add_tag_route` for the arguments."""
    names = list(service.bundles)

    @app.get(
        "/v1/model", dependencies=locked, response_model_exclude_unset=True, responses=problems(404, 422, *refusals)
    )
    async def model(
        model: Annotated[str, Query(description="Model to describe.", json_schema_extra={"enum": names})] = names[0],
    ) -> ModelAnswer:
        """Return the labels, thresholds and test scores of a model."""
        return service.describe(model)


def add_operations(app: FastAPI, service: TaggingService, locked: Sequence[Any], refusals: Sequence[int]) -> None:
    """Add ``GET /healthz``, ``GET /readyz`` and ``GET /metrics``; see `add_tag_route` for the arguments."""

    @app.get("/healthz", responses=problems())
    async def healthz() -> Health:
        """Check that the server is running."""
        return Health(status="ok")

    @app.get("/readyz", responses=problems(503))
    async def readyz() -> Health:
        """Check that the server has room for another photo. A load balancer should wait otherwise."""
        if service.is_full:
            raise HTTPException(503, "The queue is full. Try again in a moment.", RETRY)
        return Health(status="ok")

    @app.get(
        "/metrics",
        dependencies=locked,
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(*refusals)},
    )
    async def metrics() -> Response:
        """Return the numbers of requests and photos and the length of the queue, in the Prometheus text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def add_documentation(app: FastAPI) -> None:
    """Add ``GET /docs``, which shows the OpenAPI document on a page that loads nothing from other sites."""
    template = (resources.files("polytag.serving") / "web" / "docs.html").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True).from_string(template)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        content = page.render(app.openapi(), address=str(request.base_url))
        return Response(content, media_type="text/html; charset=utf-8")


def key_check(api_key: str) -> Callable[..., Any]:
    """Return a dependency that accepts a request only if the Authorization or X-API-Key header contains the key."""

    async def check(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
        header: Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))],
    ) -> None:
        given = bearer.credentials if bearer else header
        # The time of this comparison does not reveal how many characters of the key are correct.
        if given is None or not hmac.compare_digest(given.encode(), api_key.encode()):
            what = "The API key is missing." if given is None else "The API key is wrong."
            detail = f"{what} Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})

    return check


async def _unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await ``work``, but cancel it if the client disconnects, because no one would read the response."""
    answer, left = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(400, "The client disconnected before the answer was ready.")
        return answer.result()
    finally:
        answer.cancel()
        left.cancel()


async def _left(request: Request) -> None:
    """Wait until the client disconnects. The request's body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
