"""Tag photos in a Spark data frame."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polytag.models.bundle.bundle import Bundle
from polytag.serving.scale.worker import TagTask
from polytag.serving.tagging.tag import thresholds_of

BATCH_SIZE = 16
"""Number of photos per call. They are in memory together."""


def spark_tagger(
    bundle: str | Path, engine: str = "float32", threshold: Sequence[str] = (), top: int | None = None
) -> Callable[..., Any]:
    """Return a Spark function from a column with the content of photos to a column with their labels.

    The result is a struct: ``labels`` (array of strings, most probable first), ``probabilities`` (array of floats, in
    the order of ``Bundle.labels``) and ``error`` ("" if the photo can be read). A photo that cannot be read has two
    empty arrays. Each Python worker of Spark loads the model once.

    Args:
        bundle: folder of the bundle, which only the driver reads.
        engine: the bundle's engine.
        threshold: thresholds as for ``polytag tag --threshold``.
        top: maximum number of labels per photo; ``None`` for no limit.

    Raises:
        ModuleNotFoundError: pyspark is not installed.
        BundleError: the bundle is damaged or does not contain the engine.
        SettingsError: a threshold does not fit the bundle.
    """
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType, StringType, StructField, StructType

    opened = Bundle(bundle, engine)
    task = TagTask.of(opened, thresholds_of(opened, threshold), top)

    def load() -> Callable[[Any], list[dict[str, Any]]]:
        tagger = task.open()

        def tag(contents: Any) -> list[dict[str, Any]]:
            return [
                {
                    "labels": np.array(row.labels, dtype=object),
                    "probabilities": np.array(list(row.probabilities.values()), np.float32),
                    "error": row.error,
                }
                for row in tagger.rows(("", bytes(content)) for content in contents)
            ]

        return tag

    columns = [("labels", ArrayType(StringType())), ("probabilities", ArrayType(FloatType())), ("error", StringType())]
    result = StructType([StructField(name, kind) for name, kind in columns])
    return predict_batch_udf(load, return_type=result, batch_size=BATCH_SIZE)
