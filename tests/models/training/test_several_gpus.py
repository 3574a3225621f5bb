"""Training on several devices gives the same network. Two logical processors stand in for two GPUs."""

import json
import subprocess
import sys

import numpy as np

CODE = """
import json, sys
from types import SimpleNamespace
import numpy as np
import tensorflow

processor = tensorflow.config.list_physical_devices("CPU")[0]
tensorflow.config.set_logical_device_configuration(processor, [tensorflow.config.LogicalDeviceConfiguration()] * 2)
from polytag.models import backend
from polytag.models.backend import keras
from polytag.models.networks.architectures import head
from polytag.models.recipe import Recipe
from polytag.models.training import loop
from polytag.models.training.batches import Batches

backend.replicas = loop.replicas = lambda: ["CPU:0", "CPU:1"][: int(sys.argv[1])]

class View:
    def __init__(self, values):
        self.values, self.cache = values, SimpleNamespace(shape=values.shape[1:])
    def __len__(self):
        return len(self.values)
    def __getitem__(self, which):
        return self.values[which]

rng = np.random.default_rng(0)
x = rng.normal(size=(46, 6)).astype(np.float32)
y = (x[:, :3] > 0).astype(np.int8)
# A photo is left over, which would count more on a device of its own.
train = Batches(View(x[:33]), y[:33], 8, shuffle=True, devices=2)
validation = Batches(View(x[33:]), y[33:], 8)
keras.utils.set_random_seed(0)
with backend.on_all_gpus():
    network = head(6, 3, dense=8, dropout=0.0)
    bar = SimpleNamespace(update=lambda n: None, set_description=lambda *a, **k: None, set_postfix=lambda *a, **k: None,
                          set_postfix_str=lambda *a, **k: None, refresh=lambda: None)
    recipe = Recipe.of("transfer", epochs=3, learning_rate=0.05)
    fitted = loop.fit_network(network, train, validation, recipe, bar, "test")
print(json.dumps({"replicas": network.distribute_strategy.num_replicas_in_sync,
                  "losses": [epoch["loss"] for epoch in fitted.history],
                  "probabilities": fitted.probabilities.tolist()}))
"""


def trained_on(devices: int) -> dict:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE, str(devices)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_two_devices_train_the_same_network_as_one() -> None:
    one, two = trained_on(1), trained_on(2)
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert np.shape(two["probabilities"]) == (13, 3)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-3)
    np.testing.assert_allclose(two["probabilities"], one["probabilities"], atol=2e-3)
