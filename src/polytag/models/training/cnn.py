"""Train the CNNs of `baseline` and `tuned` from scratch."""

from collections.abc import Sequence

from polytag.data.dataset import Dataset
from polytag.models.backend import keras, training_policy
from polytag.models.networks.architectures import MODELS, check_reduction
from polytag.models.recipe import Recipe
from polytag.models.training.checkpoint import Checkpoints
from polytag.models.training.loop import Fitted, Trained, fit_network, photo_batches, warm_up_and_cosine
from polytag.progress import progress_bar


def fit_cnn(
    train: Dataset, validation: Dataset, recipe: Recipe, show_progress: bool, checkpoints: Checkpoints | None = None
) -> Trained:
    """Train a CNN and return a version of it that consists of standard Keras layers.

    Args:
        train, validation: readable photos.
        recipe: recipe of `baseline` or `tuned`.
        show_progress: whether to draw a progress bar on stderr.
        checkpoints: where to save the progress.
    """
    # Opened before training, because files may disappear during the hours that training takes.
    full_size = photo_batches(validation, recipe, False)
    learner, fitted = train_cnn(train, validation, recipe, recipe.model, show_progress, checkpoints=checkpoints)
    # The network is validated the same way as it will tag: in float32 and on full-size photos.
    network = MODELS[recipe.model](len(train.labels), recipe.image_size, **recipe.hyperparameters)
    network.set_weights(learner.get_weights())
    done = f"training after {len(fitted.history)} of {recipe.epochs} epochs"
    facts = {"cut_short": done} if fitted.cut_short else {}
    return Trained(network, recipe, fitted.history, fitted.kept, network.predict(full_size, verbose=0), facts)


def train_cnn(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    title: str,
    show_progress: bool,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: Checkpoints | None = None,
) -> tuple[keras.Model, Fitted]:
    """Train a CNN with `fit_network`. For `tuned`, the learning rate decays to zero along a cosine.

    Args:
        train, validation: readable photos.
        recipe: recipe of `baseline` or `tuned`.
        title: text on the progress bar.
        show_progress: whether to draw a progress bar on stderr.
        callbacks: additional callbacks, which receive the scores of each epoch.
        checkpoints: where to save the progress.

    Returns:
        The trained network and the record of its training. If the recipe reduces photos, this network takes reduced
        photos, because the threads that prepare batches reduce them before any other processing.
    """
    keras.utils.set_random_seed(recipe.seed)
    settings = dict(recipe.hyperparameters)
    reduce = settings.pop("reduce", 1)
    check_reduction(reduce)
    size = recipe.image_size // reduce
    network = MODELS[recipe.model](len(train.labels), size, policy=training_policy(), fused=True, **settings)
    batches = photo_batches(train, recipe, True, reduce=reduce)
    validation_batches = photo_batches(validation, recipe, False, reduce=reduce)
    optimizer = None
    if recipe.model == "tuned":
        rate = warm_up_and_cosine(recipe.learning_rate, len(batches) * recipe.epochs, len(batches) // 2)
        optimizer = keras.optimizers.AdamW(rate, recipe.weight_decay)
    with progress_bar(len(batches) * recipe.epochs, title, "step", show_progress) as bar:
        fitted = fit_network(
            network, batches, validation_batches, recipe, bar, title, optimizer, callbacks, checkpoints, "cnn"
        )
    return network, fitted
