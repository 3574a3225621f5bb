"""Transfer learning: a head on a pretrained backbone's embeddings, then, gently, the backbone itself."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from polytag.data.dataset import Dataset
from polytag.models.backbones.backbone import backbone, pooled
from polytag.models.backbones.embed import embed
from polytag.models.backbones.weights import Weights
from polytag.models.backend import keras, training_policy
from polytag.models.networks.architectures import head, joined, transfer
from polytag.models.recipe import Recipe
from polytag.models.training.batches import Batches
from polytag.models.training.early_layers import divided
from polytag.models.training.late_layers import unfreeze
from polytag.models.training.loop import (
    Fitted,
    Trained,
    mean_average_precision,
    photo_batches,
    run,
    uncompiled,
    warm_up_and_cosine,
)
from polytag.models.training.optimizer import AdamW
from polytag.progress import progress_bar

FINE_TUNE_PHOTOS, FINE_TUNE_EPOCHS = 12_000, 8
"""Where epochs are left open: so many photos, each epoch's counted anew, and so many epochs at most."""

FINE_TUNE_RATE = 3e-4
"""Learning rate of the backbone's last layer. The first that is trained has `FIRST_LAYER` times it, those between
lie between (Howard & Ruder 2018), and the head, which is new, has `HEAD` times it."""

FIRST_LAYER, HEAD = 0.3, 5.0

TRAINING_EPOCHS = 6
"""Epochs after which a backbone of some millions of parameters begins to learn some thousand photos by heart: what is
beyond goes into further trainings from the same start, whose weights are averaged (Wortsman et al. 2022, "Model soups:
averaging weights of multiple fine-tuned models improves accuracy without increasing inference time"). The learning rate
of these falls to a half only: they end further apart, and their mean is the better for it."""

AVERAGED_STEPS = 500
"""Weights are averaged over about this many steps (Polyak & Juditsky 1992), or a tenth of all where those are fewer."""


def default_epochs(photos: int) -> int:
    """Epochs of fine-tuning on so many training photos, where they are left open: at least one."""
    return min(FINE_TUNE_EPOCHS, max(1, FINE_TUNE_PHOTOS // photos))


def fine_tuning_size(image_size: int) -> int:
    """Side in pixels of the photos that fine-tuning trains on, for a model that tags photos of ``image_size``.

    What random parts of photos show is larger than in whole ones, so a network tags best at a larger size than it was
    trained at (Touvron et al. 2019, "Fixing the train-test resolution discrepancy"): beyond 224 px, the size that
    backbones come from, it is trained at about seven ninths of the size, which takes three fifths of the time.
    """
    return max(min(image_size, 224), 32 * round(image_size * 7 / 9 / 32))


def fit_transfer(train: Dataset, validation: Dataset, recipe: Recipe, weights: Weights, show_progress: bool) -> Trained:
    """Train a head on the frozen backbone's embeddings, then, if the recipe has it, the late layers as well."""
    features = pooled(backbone(recipe.backbone, recipe.image_size, weights))
    top, fitted = fit_head(*head_batches(train, validation, recipe, weights, show_progress), recipe, show_progress)
    network, history = joined(features, uncompiled(top)), fitted.history
    facts = {"weights": weights.name, "fine_tuning": "none"}
    epochs = default_epochs(len(train)) if recipe.fine_tune is None else recipe.fine_tune
    recipe = replace(recipe, fine_tune=epochs)
    if epochs:
        tuned_network, tuned = _fine_tune(network, train, validation, recipe, weights, show_progress)
        frozen_score, score = (mean_average_precision(validation.targets, f.probabilities) for f in (fitted, tuned))
        history = fitted.history + tuned.history
        if score >= frozen_score:
            kept = None if tuned.kept is None else len(fitted.history) + tuned.kept
            network, fitted, facts["fine_tuning"] = tuned_network, replace(tuned, kept=kept), "kept"
            size = fine_tuning_size(recipe.image_size)
            if size != recipe.image_size:
                facts["fine_tuning"] += f"; it used photos of {size} × {size} px"
        else:
            facts["fine_tuning"] = "undone, since validation mAP was better without"
    return Trained(network, recipe, history, fitted.kept, fitted.probabilities, facts)


def head_batches(
    train: Dataset, validation: Dataset, recipe: Recipe, weights: Weights, show_progress: bool
) -> tuple[Batches, Batches]:
    """What a head is trained and judged on: embeddings of the photos as they are.

    Those of mirror images as well would take nearly twice as long and teach it nothing: see `benchmarks/heads.py`.
    """
    with progress_bar(len(train) + len(validation), "transfer · embedding photos", "photo", show_progress) as bar:

        def embedded(data: Dataset, training: bool) -> Batches:
            features = embed(data.paths, recipe.image_size, weights, on_progress=bar.update)
            return Batches(features, data.targets, recipe.batch_size, shuffle=training, seed=recipe.seed)

        return embedded(train, True), embedded(validation, False)


def fit_head(
    train: Batches,
    validation: Batches,
    recipe: Recipe,
    show_progress: bool,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[keras.Model, Fitted]:
    """Train a head on embeddings: the head, and how it came about."""
    keras.utils.set_random_seed(recipe.seed)
    top = head(train.width, train.targets.shape[1], **recipe.hyperparameters)
    with progress_bar(len(train) * recipe.epochs, "transfer", "step", show_progress) as bar:
        return top, run(top, train, validation, recipe, bar, "transfer", callbacks=callbacks)


def _fine_tune(
    frozen: keras.Model, train: Dataset, validation: Dataset, recipe: Recipe, weights: Weights, show_progress: bool
) -> tuple[keras.Model, Fitted]:
    """Train the late layers of a copy too: the copy, and how it went."""
    epochs = recipe.fine_tune or 0
    gentle = replace(recipe, batch_size=min(32, recipe.batch_size))
    smaller = replace(gentle, image_size=fine_tuning_size(recipe.image_size))

    def copy(of: keras.Model, image_size: int, policy: str) -> keras.Model:
        settings = {"backbone": recipe.backbone, "weights": weights, "policy": policy, **recipe.hyperparameters}
        twin = transfer(train.targets.shape[1], image_size, **settings)
        unfreeze(twin.get_layer("backbone"), image_size)
        twin.set_weights(of.get_weights())
        return twin

    network = copy(frozen, smaller.image_size, training_policy())
    n_pretrained = len(network.get_layer("backbone").trainable_variables)
    learner, features = divided(network, lambda: copy(frozen, smaller.image_size, "float32"))
    title = f"transfer · reading photos at {smaller.image_size} px"
    with progress_bar(len(train) + len(validation), title, "photo", show_progress) as bar:
        batches = photo_batches(train, smaller, True, bar.update, features=features)
        judged = photo_batches(validation, smaller, False, bar.update, features=features)
    whole = photo_batches(validation, gentle, False)  # held from the start: files may vanish in the hours that follow
    start, learned, history = learner.get_weights(), [], []
    parts = np.array_split(np.arange(epochs), max(1, epochs // TRAINING_EPOCHS))
    with progress_bar(len(batches) * epochs, "transfer · fine-tuning", "step", show_progress) as bar:
        for number, part in enumerate(parts, 1):
            title = f"transfer · fine-tuning {number} of {len(parts)}" if len(parts) > 1 else "transfer · fine-tuning"
            learner.set_weights(start)
            steps = len(batches) * len(part) * (2 if len(parts) > 1 else 1)
            optimizer = _optimizer(learner, n_pretrained, steps, len(batches) // 2)
            fitted = run(learner, batches, judged, replace(gentle, epochs=len(part)), bar, title, optimizer)
            history += fitted.history
            learned.append(learner.get_weights())
    learner.set_weights([np.mean(same, axis=0) for same in zip(*learned, strict=True)])
    # Judged as it will tag: in 32 bits and on photos of full size, whatever it was trained in and on.
    tuned = copy(network, recipe.image_size, "float32")
    kept = fitted.kept if len(parts) == 1 else None
    return tuned, Fitted(history, kept, tuned.predict(whole, verbose=0))


def _optimizer(network: keras.Model, n_pretrained: int, steps: int, warm_up: int) -> keras.optimizers.Optimizer:
    """Warm-up and a cosine that ends after so many steps, rates that rise with depth, averaged weights."""
    n_new = len(network.trainable_variables) - n_pretrained
    optimizer = AdamW(
        warm_up_and_cosine(FINE_TUNE_RATE, steps, warm_up),
        1e-2,
        factors=[*np.geomspace(FIRST_LAYER, 1, n_pretrained), *[HEAD] * n_new],
        average=1 - 1 / min(AVERAGED_STEPS, max(2, steps // 10)),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer
