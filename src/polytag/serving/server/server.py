"""Tagging over HTTP: photos in, labels with probabilities out, for one model or several side by side."""

import asyncio
import base64
import hmac
import importlib.metadata
import io
import queue
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polytag.errors import ImageError, SettingsError, counted, listed
from polytag.models.bundle.bundle import Bundle
from polytag.photos.decode import decode
from polytag.serving.server.batching import Batcher
from polytag.serving.server.metrics import Measure, Metrics
from polytag.serving.server.schema import (
    Health,
    LabelAnswer,
    ModelAnswer,
    Problem,
    TagAnswer,
    Tagged,
    Unreadable,
    photos_body,
    problems,
)
from polytag.serving.server.uploads import RETRY, Limits, Room, Upload, read_uploads
from polytag.serving.web.http import (
    HEADERS,
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
    add_pages,
    problem_details,
    secure,
    serve,
)

if TYPE_CHECKING:
    from polytag.serving.explaining.explain import Explainer

PAGE_HEADERS = {"Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; img-src 'self' blob: data:"}
"""The page shows photos that it holds itself."""

STATUS = {"not an image": 415, "too large": 413}
"""Of problems of a photo; 422 of all others."""

DESCRIPTION = "Photos in, labels with probabilities out. Photos are kept nowhere."


def tagging_app(
    bundles: Mapping[str, Bundle], api_key: str | None = None, host: str = "127.0.0.1", limits: Limits | None = None
) -> FastAPI:
    """The API, its documentation and the page.

    Args:
        bundles: the models by the names that requests give them; the first is used where none is named.
        api_key: what requests to the API must carry; ``None`` lets everybody in who reaches the server.
        host: the name or address that the app will be served on.
        limits: of requests.

    Raises:
        BundleError: a bundle is damaged.
        SettingsError: the key has characters that a header cannot carry.
    """
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.split() == [api_key]):
        raise SettingsError("an API key must be letters, digits and signs of ASCII, without blanks, at least one")
    limits = limits or Limits()
    service = _Service(bundles, limits)
    default = next(iter(bundles))
    names, labels = list(bundles), ["*", *dict.fromkeys(label for b in bundles.values() for label in b.labels)]

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
    # With a key a page that took another name for this server (DNS rebinding) gains nothing, and proxies have names.
    secure(app, host if api_key is None else None)
    app.add_middleware(Measure, metrics=service.metrics)
    files = ("tag.css", "tag.js", "requests.js", "heat.js", "docs.css")
    add_pages(app, {"/": "tag.html"} | {f"/{name}": name for name in files}, PAGE_HEADERS)
    locked = [] if api_key is None else [Depends(_key_check(api_key))]
    refusals = () if api_key is None else (401,)

    @app.post(
        "/v1/tag",
        dependencies=locked,
        response_model_exclude_unset=True,
        openapi_extra={"requestBody": photos_body(limits.photos)},
        responses=problems(400, 403, 404, 408, 413, 415, 422, 503, *refusals),
    )
    async def tag(
        request: Request,
        explain: Annotated[
            list[Annotated[str, Field(json_schema_extra={"enum": labels})]],
            Query(
                default_factory=list,
                description="Labels for which to show where in the photo the model saw them; * means every label "
                "that a photo is given.",
            ),
        ],
        model: Annotated[str, Query(description="Which model.", json_schema_extra={"enum": names})] = default,
    ) -> TagAnswer:
        """Tag one photo or several."""
        bundle = service.bundle(model)
        strangers = [label for label in explain if label not in (*bundle.labels, "*")]
        if strangers:
            known = listed(list(bundle.labels), 20)
            raise HTTPException(422, f"explain names no label of {model}: {listed(strangers)}; it knows {known}")
        with service.room.share() as take:
            uploads = await read_uploads(request, limits, take)
            return TagAnswer(model=model, photos=await service.tag(bundle, uploads, explain))

    @app.get(
        "/v1/model",
        dependencies=locked,
        response_model_exclude_unset=True,
        responses=problems(404, 422, *refusals),
    )
    async def model(
        model: Annotated[str, Query(description="Which model.", json_schema_extra={"enum": names})] = default,
    ) -> ModelAnswer:
        """What a model knows, and how well."""
        return service.describe(model)

    @app.get("/healthz", responses=problems())
    async def healthz() -> Health:
        """Whether the server is up."""
        return Health(status="ok")

    @app.get(
        "/metrics",
        dependencies=locked,
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(*refusals)},
    )
    async def metrics() -> Response:
        """Counts of requests and photos, and what waits, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return Response(_docs(app.openapi(), str(request.base_url)), media_type="text/html; charset=utf-8")

    return app


def serve_tagging(
    bundles: Mapping[str, Bundle],
    api_key: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    on_ready: Callable[[str], object] = lambda url: None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; what was accepted is finished first.

    Args:
        bundles, api_key: see `tagging_app`.
        host: name or address to listen on.
        port: 0 takes a free one.
        on_ready: called with the page's address as soon as it can be opened.

    Raises:
        BundleError, SettingsError: see `tagging_app`; or the host or the port cannot be used.
    """
    limits = Limits()
    serve(tagging_app(bundles, api_key, host, limits), host, port, on_ready, finish_seconds=int(limits.answer_seconds))


class _Service:
    """What the routes share."""

    def __init__(self, bundles: Mapping[str, Bundle], limits: Limits) -> None:
        self.bundles = dict(bundles)
        self.limits = limits
        self.room = Room(limits.held_bytes)
        self.metrics = Metrics(lambda: len(self.tagging))
        for bundle in self.bundles.values():
            _ = bundle.run  # Damage comes to light before anybody asks.
        self.tagging: Batcher[Bundle, bytes, NDArray[np.float32] | ImageError] = Batcher(
            Bundle.probabilities,
            min(bundle.threads for bundle in self.bundles.values()),
            min(bundle.batch_size for bundle in self.bundles.values()),
            limits.waiting_photos,
            self.metrics.batch.observe,
        )
        # Gradients take Keras, which keeps all cores busy by itself.
        self.explaining: Batcher[Bundle, tuple[bytes, list[str]], list[str]] = Batcher(
            self._heatmaps, 1, 1, limits.waiting_explanations
        )
        self._explainers: dict[Bundle, Explainer] = {}

    def close(self) -> None:
        """Finish what was accepted."""
        self.tagging.close()
        self.explaining.close()

    def bundle(self, name: str) -> Bundle:
        if name not in self.bundles:
            raise HTTPException(404, f"no model '{name}' is served: choose {listed(list(self.bundles), 20)}")
        return self.bundles[name]

    def describe(self, name: str) -> ModelAnswer:
        bundle = self.bundle(name)
        recipe = bundle.manifest["recipe"]
        return ModelAnswer(
            name=name,
            labels=list(bundle.labels),
            thresholds=bundle.thresholds.tolist(),
            image_size=bundle.image_size,
            approach=recipe["model"],
            trained_on=bundle.manifest.get("data", {}).get("train"),
            test=bundle.manifest.get("test"),
            models=list(self.bundles),
            **({"backbone": recipe["backbone"]} if recipe.get("backbone") else {}),
        )

    async def tag(self, bundle: Bundle, uploads: Sequence[Upload], explain: Sequence[str]) -> list[Tagged | Unreadable]:
        """Tag photos, in turn with those of other requests.

        Raises:
            HTTPException: no photo can be read; 422 no explanation, or too many at once; 503 too busy.
        """
        most = self.limits.waiting_explanations
        if explain and len(uploads) > most:
            raise HTTPException(422, f"explanations are made for at most {counted(most, 'photo')} at once")
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                found = await _results(self.tagging.submit(bundle, [upload.content for upload in uploads]))
                bad = [result for result in found if isinstance(result, ImageError)]
                self.metrics.photos.labels("unreadable").inc(len(bad))
                self.metrics.photos.labels("tagged").inc(len(found) - len(bad))
                if len(bad) == len(found):
                    raise HTTPException(_status(bad[0]), _detail(bad))
                answers = [_answer(bundle, upload, result) for upload, result in zip(uploads, found, strict=True)]
                if explain:
                    await self._explain(bundle, uploads, answers, explain)
                return answers
        except queue.Full:
            raise HTTPException(503, "too many photos wait: try again in a moment", RETRY) from None
        except TimeoutError:
            detail = f"no answer within {self.limits.answer_seconds:g} seconds: try again, with fewer photos at once"
            raise HTTPException(503, detail, RETRY) from None
        except SettingsError as error:
            raise HTTPException(422, str(error)) from None

    async def _explain(
        self,
        bundle: Bundle,
        uploads: Sequence[Upload],
        answers: Sequence[Tagged | Unreadable],
        asked: Sequence[str],
    ) -> None:
        """Add heat maps to the answers."""
        wanted = [
            [label for label in answer.labels if label.label in asked or ("*" in asked and label.decision)]
            if isinstance(answer, Tagged)
            else []
            for answer in answers
        ]
        rows = [row for row, labels in enumerate(wanted) if labels]
        pieces = [(uploads[row].content, [label.label for label in wanted[row]]) for row in rows]
        for row, heatmaps in zip(rows, await _results(self.explaining.submit(bundle, pieces)), strict=True):
            for label, heatmap in zip(wanted[row], heatmaps, strict=True):
                label.heatmap = heatmap

    def _heatmaps(self, bundle: Bundle, pieces: list[tuple[bytes, list[str]]]) -> list[list[str]]:
        """Heat maps as PNGs in base64, for each photo and each of its labels."""
        # Keras takes seconds to import and hundreds of megabytes, so it waits until somebody asks for it.
        from polytag.serving.explaining.explain import Explainer

        if bundle not in self._explainers:
            self._explainers[bundle] = Explainer(bundle)
        explainer = self._explainers[bundle]
        return [
            [_png(heat) for heat in explainer.heat(decode(photo, bundle.image_size), labels)]
            for photo, labels in pieces
        ]


async def _results(futures: Sequence[Any]) -> list[Any]:
    return await asyncio.gather(*map(asyncio.wrap_future, futures))


def _answer(bundle: Bundle, upload: Upload, result: NDArray[np.float32] | ImageError) -> Tagged | Unreadable:
    if isinstance(result, ImageError):
        return Unreadable(name=upload.name, problem=Problem(**problem_details(_status(result), str(result))))
    labels = [
        LabelAnswer(label=label, probability=probability, threshold=threshold, decision=probability >= threshold)
        for label, probability, threshold in zip(
            bundle.labels, result.tolist(), bundle.thresholds.tolist(), strict=True
        )
    ]
    return Tagged(name=upload.name, labels=labels)


def _status(error: ImageError) -> int:
    return STATUS.get(error.problem, 422)


def _detail(errors: Sequence[ImageError]) -> str:
    if len(errors) == 1:
        return str(errors[0])
    return f"none of {counted(len(errors), 'photo')} could be read; the first: {errors[0]}"


def _png(heat: NDArray[np.float32]) -> str:
    file = io.BytesIO()
    Image.fromarray((heat * 255).round().astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _key_check(api_key: str) -> Callable[..., Any]:
    """A dependency that lets a request pass if it carries the key, in either of two headers."""

    async def check(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
        header: Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))],
    ) -> None:
        given = bearer.credentials if bearer else header
        # The time that it takes tells nothing about how much of the key is right.
        if given is None or not hmac.compare_digest(given.encode(), api_key.encode()):
            what = "no API key came" if given is None else "the API key is wrong"
            detail = f"{what}: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})

    return check


def _docs(document: dict[str, Any], address: str) -> str:
    """The OpenAPI document as a page that needs nothing from elsewhere."""
    template = (resources.files("polytag.serving") / "web" / "docs.html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True).from_string(template).render(document, address=address)
