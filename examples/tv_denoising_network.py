"""The convolutional network that total-variation denoising is compared with."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import trange

CHANNELS, WIDTH = 24, 7
BATCH, LEARNING_RATE = 32, 3e-3


class Network(nnx.Module):
    """Three convolutions with ReLUs between them, whose output is taken off the readings.

    The first has a bias of its own at each place, so that the network can learn a timetable, too."""

    def __init__(self, n: int, rngs: nnx.Rngs):
        def convolution(channels: int, out: int) -> nnx.Conv:
            return nnx.Conv(channels, out, (WIDTH,), rngs=rngs)

        self.first = convolution(1, CHANNELS)
        self.place = nnx.Param(jnp.zeros((n, CHANNELS), jnp.float32))
        self.second = convolution(CHANNELS, CHANNELS)
        self.third = convolution(CHANNELS, 1)

    def __call__(self, noisy: jax.Array) -> jax.Array:
        """Denoised signals (batch, n)."""
        hidden = nnx.relu(self.first(noisy[..., None]) + self.place[...][None])
        return noisy - self.third(nnx.relu(self.second(hidden)))[..., 0]


def error_of(network: Network, noisy: jax.Array, clean: jax.Array) -> jax.Array:
    return jnp.mean((network(noisy) - clean) ** 2)


@nnx.jit
def train_step(
    network: Network, optimizer: nnx.Optimizer, noisy: jax.Array, clean: jax.Array
) -> jax.Array:
    loss, gradients = nnx.value_and_grad(error_of)(network, noisy, clean)
    optimizer.update(network, gradients)
    return loss


def network_error(train: Any, test: Any, steps: int, seed: int) -> float:
    """The mean squared error on the test signals after training on the others."""
    network = Network(train.noisy.shape[1], nnx.Rngs(seed))
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, steps, alpha=0.02)
    optimizer = nnx.Optimizer(network, optax.adam(schedule), wrt=nnx.Param)
    rng = np.random.default_rng(seed)
    train, test = jax.tree.map(lambda s: s.astype(jnp.float32), (train, test))
    progress = trange(steps, desc="training the network", unit="step")
    for _ in progress:
        rows = rng.choice(len(train.noisy), BATCH, replace=False)
        loss = train_step(network, optimizer, train.noisy[rows], train.clean[rows])
        progress.set_postfix(error=f"{loss:.4f}")
    return float(error_of(network, test.noisy, test.clean))
