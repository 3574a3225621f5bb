"""What the tagging server answers, as its OpenAPI document has it."""

from typing import Any

from polytag.serving.web.http import BaseModel, Field


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="In one sentence: what was expected, what came, what to do.")


class LabelAnswer(BaseModel):
    """One label of one photo."""

    label: str
    probability: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1)
    decision: bool = Field(description="Whether the probability reaches the threshold.")
    heatmap: str | None = Field(
        default=None,
        description="Where the model saw it: a grey 8-bit PNG in base64, as large as the model's input; only where "
        "explain asked for it.",
    )


class Tagged(BaseModel):
    """A photo with all labels that the model knows, in the model's order."""

    name: str
    labels: list[LabelAnswer]


class Unreadable(BaseModel):
    """A photo that could not be read."""

    name: str
    problem: Problem


class TagAnswer(BaseModel):
    """What became of each photo, in the order in which they came."""

    model: str
    photos: list[Tagged | Unreadable]


class ModelAnswer(BaseModel):
    """A model that is served."""

    name: str
    labels: list[str]
    thresholds: list[float]
    image_size: int = Field(description="Side to which photos are brought, in pixels.")
    approach: str
    backbone: str | None = None
    trained_on: int | None = Field(description="Photos.")
    test: dict[str, float] | None = Field(description="Scores on test photos, where they were measured.")
    models: list[str] = Field(description="All that are served.")


class Health(BaseModel):
    """The server is up."""

    status: str


PROBLEMS = {
    400: "The request or its multipart form is damaged.",
    401: "The API key is missing or wrong.",
    403: "The request comes from another site's page.",
    404: "No model of that name is served.",
    408: "The body came too slowly.",
    413: "The body is too large, or the one photo of the request has too many pixels.",
    415: "The one photo of the request is none.",
    421: "The server does not answer to the host name of the request.",
    422: "A parameter is out of its range, there are too many photos, or the one photo is empty or damaged.",
    503: "The server is too busy; Retry-After says when to try again.",
}
"""What each status of an error means."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route for its OpenAPI description; those of `Guard` come with every route."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return {
        status: {"description": PROBLEMS[status], "content": content} | ({"headers": retry} if status == 503 else {})
        for status in sorted({*statuses, 421})
    }


def photos_body(most: int) -> dict[str, Any]:
    """The body that takes photos, for a route's OpenAPI description."""
    photo = {"type": "string", "format": "binary"}
    photos = {"type": "array", "items": photo, "minItems": 1, "maxItems": most}
    form = {"type": "object", "properties": {"photo": photos}, "required": ["photo"]}
    kinds = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
    return {
        "required": True,
        "description": "One photo as it is, whatever the content type says, or a form in which every part is a photo, "
        "whatever its field is called. JPEG, PNG, WebP, BMP, GIF or TIFF.",
        "content": {**{kind: {"schema": photo} for kind in kinds}, "multipart/form-data": {"schema": form}},
    }
