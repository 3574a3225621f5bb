"""Response objects of the tagging server, as described in its OpenAPI document."""

from typing import Any

from polytag.serving.web.http import BaseModel, Field


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What is wrong, and how to fix it.")


class LabelAnswer(BaseModel):
    """The result for one label of a photo."""

    label: str
    probability: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1)
    decision: bool = Field(
        description="Whether the label is assigned, which means that the probability reaches the threshold."
    )
    heatmap: str | None = Field(
        default=None,
        description="Heat map of the regions that raise the label's score, as a base64-encoded 8-bit greyscale PNG at "
        "the model's input size. Present only if requested with explain.",
    )


class Tagged(BaseModel):
    """A tagged photo. Its labels are all labels of the model, in the model's order."""

    image: str
    labels: list[LabelAnswer]


class Unreadable(BaseModel):
    """A photo that cannot be read."""

    image: str
    error: Problem


class TagAnswer(BaseModel):
    """The results for all photos, in the order of the request."""

    model: str
    images: list[Tagged | Unreadable]


class ModelAnswer(BaseModel):
    """A description of a model."""

    name: str
    labels: list[str]
    thresholds: list[float]
    image_size: int = Field(description="Side length of the model's input, in pixels.")
    approach: str
    backbone: str | None = None
    trained_on: int | None = Field(description="Number of training photos.")
    test: dict[str, float] | None = Field(description="Scores on the test set, if the model was evaluated.")
    models: list[str] = Field(description="Names of all models on this server.")


class Health(BaseModel):
    """The state of the server, which is always "ok"."""

    status: str


PROBLEMS = {
    400: "The request or its multipart form is damaged.",
    401: "The API key is missing or wrong.",
    403: "The request comes from a page of another site.",
    404: "There is no model with this name.",
    408: "The upload took too long.",
    413: "The upload is too large, or its only photo has too many pixels.",
    415: "The upload is not a supported image.",
    421: "The server does not accept requests for this host name.",
    422: "A parameter is out of range, there are too many photos, or the only photo is empty or damaged.",
    503: "The server is busy. Retry-After says when to try again.",
}
"""Meaning of each error status code."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe a route's errors for OpenAPI. Status 421 is included because every route can return it."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return {
        status: {"description": PROBLEMS[status], "content": content} | ({"headers": retry} if status == 503 else {})
        for status in sorted({*statuses, 421})
    }


def images_body(most: int) -> dict[str, Any]:
    """Describe a request body with up to ``most`` photos for OpenAPI."""
    image = {"type": "string", "format": "binary"}
    images = {"type": "array", "items": image, "minItems": 1, "maxItems": most}
    form = {"type": "object", "properties": {"image": images}, "required": ["image"]}
    kinds = ("image/jpeg", "image/png", "image/webp", "image/heic", "image/avif", "application/octet-stream")
    return {
        "required": True,
        "description": "The bytes of one photo, or a multipart form in which every part is a photo. Supported formats "
        "are JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF and TIFF. The format is detected from the content. Content types "
        "and field names are ignored.",
        "content": {**{kind: {"schema": image} for kind in kinds}, "multipart/form-data": {"schema": form}},
    }
