"""The CNNs of `baseline` and `tuned`, trained from scratch on photos, the way that is fastest."""

from collections.abc import Sequence

from polytag.data.dataset import Dataset
from polytag.models.backend import keras, training_policy
from polytag.models.networks.architectures import MODELS, check_reduction
from polytag.models.recipe import Recipe
from polytag.models.training.loop import Fitted, Trained, photo_batches, run, warm_up_and_cosine
from polytag.models.training.optimizer import AdamW
from polytag.progress import progress_bar


def fit_cnn(train: Dataset, validation: Dataset, recipe: Recipe, show_progress: bool) -> Trained:
    """Train a CNN: the network that will tag, of Keras' own layers, and how it came about."""
    whole = photo_batches(validation, recipe, False)  # held from the start: files may vanish in the hours that follow
    learner, fitted = train_cnn(train, validation, recipe, recipe.model, show_progress)
    # Judged as it will tag: in 32 bits and on whole photos, whatever it was trained in and on.
    network = MODELS[recipe.model](len(train.labels), recipe.image_size, **recipe.hyperparameters)
    network.set_weights(learner.get_weights())
    return Trained(network, recipe, fitted.history, fitted.kept, network.predict(whole, verbose=0))


def train_cnn(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    title: str,
    show_progress: bool,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[keras.Model, Fitted]:
    """Train a CNN as `run` does; but that of `tuned` with a learning rate that falls along a cosine to zero.

    Returns:
        A network that has the weights, and how it went. It takes photos that are reduced already, where the recipe
        has them reduced: in the threads that prepare batches, and before anything else is done with so many pixels.
    """
    keras.utils.set_random_seed(recipe.seed)
    settings = dict(recipe.hyperparameters)
    reduce = settings.pop("reduce", 1)
    check_reduction(reduce)
    size = recipe.image_size // reduce
    network = MODELS[recipe.model](len(train.labels), size, policy=training_policy(), fused=True, **settings)
    batches = photo_batches(train, recipe, True, reduce=reduce)
    judged = photo_batches(validation, recipe, False, reduce=reduce)
    optimizer = None
    if recipe.model == "tuned":
        rate = warm_up_and_cosine(recipe.learning_rate, len(batches) * recipe.epochs, len(batches) // 2)
        optimizer = AdamW(rate, recipe.weight_decay)
    with progress_bar(len(batches) * recipe.epochs, title, "step", show_progress) as bar:
        return network, run(network, batches, judged, recipe, bar, title, optimizer, callbacks)
