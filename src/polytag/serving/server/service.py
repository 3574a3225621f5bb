"""The service behind the routes of the tagging server, with its models, queues and heat maps."""

import asyncio
import base64
import io
import queue
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polytag.errors import ImageError, SettingsError, counted, listed
from polytag.models.bundle.bundle import Bundle
from polytag.models.encoders.source import HUB, TIMM
from polytag.photos.decode import LARGE_PIXELS, decode, n_pixels
from polytag.serving.explaining.explain import Explainer, explainer_of
from polytag.serving.server.batching import Batcher
from polytag.serving.server.metrics import Metrics
from polytag.serving.server.schema import LabelAnswer, ModelAnswer, Problem, Tagged, Unreadable
from polytag.serving.server.uploads import RETRY, Limits, Room, Upload
from polytag.serving.web.http import HTTPException, problem_details

STATUS = {"not an image": 415, "too large": 413}
"""HTTP status code for a value of `ImageError.problem`. All other values get status 422."""

PIXELS_PER_PLACE = 2_000_000
"""Number of pixels per slot of a batch. Large photos take several slots, so that all batches take about the same time
and no photo waits long for the batch ahead of it. Eight small photos take as long as one photo of 16 megapixels."""


class TaggingService:
    """The models, queues and metrics that the routes share.

    Args:
        bundles: models by name.
        limits: limits on requests.

    Raises:
        BundleError: a bundle is damaged.
    """

    def __init__(self, bundles: Mapping[str, Bundle], limits: Limits) -> None:
        self.bundles = dict(bundles)
        self.limits = limits
        self.room = Room(limits.held_bytes)
        self.metrics = Metrics(lambda: len(self.tagging) + len(self.large))
        for bundle in self.bundles.values():
            _ = bundle.run  # Loading the network here reports a damaged bundle at start, not at the first request.
        threads = min(bundle.threads for bundle in self.bundles.values())
        batch_size = min(bundle.batch_size for bundle in self.bundles.values())
        self.tagging = self._queue(threads, batch_size, limits.waiting_photos)
        # The decoder decodes only one large photo at a time. In the same queue, large photos would block all threads.
        self.large = self._queue(1, 1, limits.waiting_large_photos)
        # One thread is enough because Keras uses all cores to compute each gradient.
        self.explaining: Batcher[Bundle, tuple[bytes, list[str]], list[str]] = Batcher(
            self._heatmaps, 1, 1, limits.waiting_explanations
        )
        self._explainers: dict[Bundle, Explainer] = {}

    def _queue(
        self, threads: int, batch_size: int, room: int
    ) -> Batcher[Bundle, bytes, NDArray[np.float32] | ImageError]:
        return Batcher(Bundle.probabilities, threads, batch_size, room, self.metrics.batch.observe)

    def close(self) -> None:
        """Finish accepted work and stop the threads."""
        for batcher in (self.tagging, self.large, self.explaining):
            batcher.close()

    @property
    def is_full(self) -> bool:
        """Whether a request with one photo would be refused."""
        return len(self.tagging) >= self.limits.waiting_photos or len(self.large) >= self.limits.waiting_large_photos

    def bundle(self, name: str) -> Bundle:
        """Return a model by name.

        Raises:
            HTTPException: 404 for an unknown name.
        """
        if name not in self.bundles:
            raise HTTPException(404, f"There is no model '{name}'. Choose from {listed(list(self.bundles), 20)}.")
        return self.bundles[name]

    def describe(self, name: str) -> ModelAnswer:
        """Describe a model.

        Raises:
            HTTPException: 404 for an unknown name.
        """
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
            **({"backbone": _public(recipe["backbone"])} if recipe.get("backbone") else {}),
        )

    async def tag(
        self, bundle: Bundle, uploads: Sequence[Upload], explain: Sequence[str], connection: Hashable
    ) -> list[Tagged | Unreadable]:
        """Tag photos. Connections take turns, so that a connection with many photos does not delay the others.

        Args:
            bundle: the model.
            uploads: photos to tag.
            explain: labels for which to add heat maps; "*" means every assigned label.
            connection: identifier of the client's connection.

        Raises:
            HTTPException: 413, 415 or 422 if no photo can be read; 422 if heat maps are not possible or too many are
                requested; 503 if the server is busy.
        """
        most = self.limits.waiting_explanations
        if explain and len(uploads) > most:
            raise HTTPException(422, f"Heat maps are limited to {counted(most, 'photo')} per request.")
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                found = await self._probabilities(bundle, [upload.content for upload in uploads], connection)
                bad = [result for result in found if isinstance(result, ImageError)]
                self.metrics.photos.labels("unreadable").inc(len(bad))
                self.metrics.photos.labels("tagged").inc(len(found) - len(bad))
                if len(bad) == len(found):
                    raise HTTPException(_status(bad[0]), _detail(bad))
                answers = [_answer(bundle, upload, result) for upload, result in zip(uploads, found, strict=True)]
                if explain:
                    await self._explain(bundle, uploads, answers, explain, connection)
                return answers
        except queue.Full:
            raise HTTPException(503, "The queue is full. Try again in a moment.", RETRY) from None
        except TimeoutError:
            detail = f"Tagging took longer than {self.limits.answer_seconds:g} seconds. Try again with fewer photos."
            raise HTTPException(503, detail, RETRY) from None
        except SettingsError as error:
            raise HTTPException(422, str(error)) from None

    async def _probabilities(
        self, bundle: Bundle, photos: Sequence[bytes], connection: Hashable
    ) -> list[NDArray[np.float32] | ImageError]:
        """Return the probabilities, float32 (k,), or the error of each photo, in order."""
        pixels = await asyncio.to_thread(lambda: [n_pixels(photo) for photo in photos])
        large = [row for row, count in enumerate(pixels) if count > LARGE_PIXELS]
        small = [row for row, count in enumerate(pixels) if count <= LARGE_PIXELS]
        places = [1 + pixels[row] // PIXELS_PER_PLACE for row in small]
        futures = self.tagging.submit(bundle, [photos[row] for row in small], connection, places)
        try:
            futures += self.large.submit(bundle, [photos[row] for row in large], connection)
        except queue.Full:
            for future in futures:
                future.cancel()
            raise
        found = dict(zip([*small, *large], await _results(futures), strict=True))
        return [found[row] for row in range(len(photos))]

    async def _explain(
        self,
        bundle: Bundle,
        uploads: Sequence[Upload],
        answers: Sequence[Tagged | Unreadable],
        asked: Sequence[str],
        connection: Hashable,
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
        found = await _results(self.explaining.submit(bundle, pieces, connection))
        for row, heatmaps in zip(rows, found, strict=True):
            for label, heatmap in zip(wanted[row], heatmaps, strict=True):
                label.heatmap = heatmap

    def _heatmaps(self, bundle: Bundle, pieces: list[tuple[bytes, list[str]]]) -> list[list[str]]:
        """Return the heat maps of each photo and label as base64-encoded PNG files."""
        if bundle not in self._explainers:
            self._explainers[bundle] = explainer_of(bundle)
        explainer = self._explainers[bundle]
        return [
            [_png(heat) for heat in explainer.heat(decode(photo, bundle.image_size), labels)]
            for photo, labels in pieces
        ]


async def _results(futures: Sequence[Any]) -> list[Any]:
    """Await the results, in order. Cancelling this call also cancels all work that has not started."""
    return await asyncio.gather(*map(asyncio.wrap_future, futures))


def _answer(bundle: Bundle, upload: Upload, result: NDArray[np.float32] | ImageError) -> Tagged | Unreadable:
    if isinstance(result, ImageError):
        return Unreadable(image=upload.name, error=Problem(**problem_details(_status(result), str(result))))
    labels = [
        LabelAnswer(label=label, probability=probability, threshold=threshold, decision=probability >= threshold)
        for label, probability, threshold in zip(
            bundle.labels, result.tolist(), bundle.thresholds.tolist(), strict=True
        )
    ]
    return Tagged(image=upload.name, labels=labels)


def _public(backbone: str) -> str:
    """Return the name of a backbone without the folders of this machine."""
    return backbone if backbone.startswith((HUB, TIMM)) else backbone.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _status(error: ImageError) -> int:
    return STATUS.get(error.problem, 422)


def _detail(errors: Sequence[ImageError]) -> str:
    if len(errors) == 1:
        return str(errors[0])
    return f"None of the {counted(len(errors), 'photo')} can be read. The first error is: {errors[0]}"


def _png(heat: NDArray[np.float32]) -> str:
    file = io.BytesIO()
    Image.fromarray((heat * 255).round().astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
