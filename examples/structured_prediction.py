"""Classify digits with layers whose outputs have a structure: sparse, ordered, or k labels at once.

A small network reads the 8x8 digits of scikit-learn and ends in one of the layers of
`structured_prediction_layers.py`, each an optimization problem of ten variables:

- sparsemax instead of softmax: most labels get the probability 0;
- the total-order projection: the outputs are the probabilities that the digit is at least 1, 2, ..., 9,
  which must fall; against the same network with such outputs left as they are;
- LML: three labels at once, learned when half of the labels are wrong (replaced by random ones), as in
  Amos, Koltun and Kolter, "The Limited Multi-Label Projection Layer" (2019). One label in three has to be
  right, so nothing forces the network to believe the wrong ones, as softmax does.

The first two learn by the loss that belongs to their problem (Blondel, Martins and Niculae, "Learning
with Fenchel-Young losses", JMLR 2020), which is made of the optimal value:

    L(s, y) = 1/2 |M y|^2 - s'M y - min_p { 1/2 |M p|^2 - s'M p  |  1'p = 1, p >= 0 }  >=  0,

and differentiated through the solver's objective; LML by -log x_y, through its solution. All are checked
against closed forms, to 1e-4: an objective right to 1e-9 leaves p free by the root of twice that, which
it uses where a label is just about to get a positive probability, as this loss wants it.

    python examples/structured_prediction.py       # learns, writes structured_prediction.png

On test images, sparsemax must be at most 1 % less accurate than softmax with at most 1.5 labels of
positive probability an image; the order must lower the squared error of the probabilities by 10 %; and
LML must miss the right digit with its three at most 0.75 times as often as softmax with its best three.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from structured_prediction_layers import (
    AT_LEAST,
    CLASSES,
    IDENTITY,
    lml,
    lml_jacobian,
    on_simplex,
    sparsemax_closed_form,
    total_order_closed_form,
)
from structured_prediction_plot import Shown, save_figure
from tqdm import trange

import jaxopt_layers as jl

TRAIN, TEST, BATCH = 600, 1100, 100
LABELS, WRONG = 3, 0.5  # of LML; share of the labels that are replaced
ACCURACY_LOST, SUPPORT, TO_UNORDERED, TO_SOFTMAX, TO_CLOSED_FORM = 0.01, 1.5, 0.9, 0.75, 1e-4
HIDDEN = 64


class Images(NamedTuple):
    """Pixels (k, 64) in [0, 1] and labels, one-hot (k, CLASSES)."""

    pixels: jax.Array
    labels: jax.Array


class Network(NamedTuple):
    first: jax.Array
    first_bias: jax.Array
    second: jax.Array
    second_bias: jax.Array

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Scores (k, CLASSES)."""
        hidden = jax.nn.relu(pixels @ self.first + self.first_bias[None])
        return hidden @ self.second + self.second_bias[None]


def start(seed: int) -> Network:
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((64, HIDDEN)) * np.sqrt(2 / 64)
    second = rng.standard_normal((HIDDEN, CLASSES)) / np.sqrt(HIDDEN)
    return Network(*map(jnp.asarray, (first, np.zeros(HIDDEN), second, np.zeros(CLASSES))))


def load(train: int, test: int, rng: np.random.Generator) -> tuple[Images, Images, Images]:
    """Images to train on, to test on, and those to train on with the wrong labels among theirs."""
    digits: Any = load_digits()
    order = rng.permutation(len(digits.target))[: train + test]
    pixels, label = digits.data[order] / 16, digits.target[order]
    wrong = np.where(rng.random(train) < WRONG, rng.integers(CLASSES, size=train), label[:train])

    def images(pixels: np.ndarray, label: np.ndarray) -> Images:
        return Images(jnp.asarray(pixels), jnp.asarray(np.eye(CLASSES)[label]))

    given = pixels[:train]
    return images(given, label[:train]), images(pixels[train:], label[train:]), images(given, wrong)


def cross_entropy(network: Network, images: Images, _: jax.Array) -> tuple[jax.Array, jax.Array]:
    each = jnp.sum(images.labels * jax.nn.log_softmax(network(images.pixels)), axis=1)
    return -jnp.mean(each), jax.nn.softmax(network(images.pixels))


def simplex_loss(network: Network, images: Images, M: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The Fenchel-Young loss of `on_simplex`, and its solutions p."""

    def each(scores: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution, target = on_simplex(scores, M), M @ label
        solved = solution.status == jl.Status.SOLVED
        loss = 0.5 * target @ target - scores @ target - solution.objective
        return loss, jnp.where(solved, solution.x, jnp.nan)

    loss, p = jax.vmap(each)(network(images.pixels), images.labels)
    return jnp.mean(loss), p


def squared_loss(network: Network, images: Images, M: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same without constraints: the outputs are the scores themselves."""
    scores = network(images.pixels)
    return 0.5 * jnp.mean(jnp.sum((scores - images.labels @ M.T) ** 2, axis=1)), scores


def lml_loss(network: Network, images: Images, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = jax.vmap(lml, in_axes=(0, None))(network(images.pixels), k)
    return -jnp.mean(jnp.log(jnp.sum(images.labels * x, axis=1))), x


class Trainer:
    """Trains networks, each from the same start and on the same batches; one program for each loss."""

    def __init__(self, steps: int, learning_rate: float, seed: int):
        self.steps, self.learning_rate, self.seed = steps, learning_rate, seed
        self.programs: dict[Callable, Callable] = {}

    def train(self, loss: Callable, images: Images, extra: jax.Array, name: str) -> Network:
        program = self.program(loss)
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.steps, alpha=0.02)
        optimizer = optax.adam(schedule)
        update = jax.jit(optimizer.update)
        network, rng = start(self.seed), np.random.default_rng(self.seed)
        state = optimizer.init(network)  # pyright: ignore[reportArgumentType]
        progress = trange(self.steps, desc=name, unit="step")
        for _ in progress:
            rows = rng.choice(len(images.pixels), BATCH, replace=False)
            batch = Images(images.pixels[rows], images.labels[rows])
            (value, _), gradient = program(network, batch, extra)
            change, state = update(gradient, state)
            network = optax.apply_updates(network, change)  # pyright: ignore
            progress.set_postfix(loss=f"{value:.4f}")
        return network  # pyright: ignore[reportReturnType]

    def program(self, loss: Callable) -> Callable:
        if loss not in self.programs:
            self.programs[loss] = jax.jit(jax.value_and_grad(loss, has_aux=True))
        return self.programs[loss]

    def outputs(self, loss: Callable, network: Network, test: Images, extra: jax.Array):
        """What the layer puts out for the test images, (k, CLASSES)."""
        program, parts = self.program(loss), []
        for i in range(0, len(test.pixels), BATCH):
            batch = Images(test.pixels[i : i + BATCH], test.labels[i : i + BATCH])
            parts.append(np.asarray(program(network, batch, extra)[0][1]))
        return np.concatenate(parts)


def accuracy(outputs: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """How often the right label is among the k largest outputs."""
    largest = np.argsort(-outputs, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.take_along_axis(labels, largest, axis=1).sum(axis=1)))


def distances_to_closed_forms(sparse: np.ndarray, ordered: np.ndarray, scores: np.ndarray) -> float:
    """The largest difference of p = `sparse`, c = `ordered` (at scores (2, k, n)), and of LML's
    Jacobian, to the closed forms."""
    found = [p - sparsemax_closed_form(s) for p, s in zip(sparse, scores[0], strict=True)]
    found += [c - total_order_closed_form(s) for c, s in zip(ordered, scores[1], strict=True)]
    jacobian = jax.jit(jax.vmap(jax.jacobian(lml), in_axes=(0, None)))
    some = jnp.asarray(scores[0][:10])
    x = jax.vmap(lml, in_axes=(0, None))(some, jnp.asarray(float(LABELS)))
    exact = np.stack([lml_jacobian(each) for each in np.asarray(x)])
    found.append(np.asarray(jacobian(some, jnp.asarray(float(LABELS)))) - exact)
    return max(float(np.abs(each).max()) for each in found)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if every layer reaches what it must."""
    parser = argparse.ArgumentParser(
        description="Classify digits with sparsemax, a total-order projection and LML.",
        epilog="Fails (exit code 1) if a layer isn't as good against softmax as it must be.",
    )
    add = parser.add_argument
    default = Path("structured_prediction.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=300, help="of Adam; LML twice as many (default: %(default)s)")
    add("--learning-rate", type=float, default=0.01, help="at the start (default: %(default)s)")
    add("--seed", type=int, default=0, help="of split and networks (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    test_size, steps = (200, min(args.steps, 40)) if args.fast else (TEST, args.steps)
    train, test, wrong = load(TRAIN, test_size, np.random.default_rng(args.seed))
    labels, verdicts = np.asarray(test.labels), []
    identity, at_least, k = (jnp.asarray(each) for each in (IDENTITY, AT_LEAST, float(LABELS)))

    def verdict(good: bool) -> str:
        verdicts.append(good)
        return "ok" if good else "FAILED"

    trainer = Trainer(steps, args.learning_rate, args.seed)

    def outputs(loss: Callable, images: Images, extra: jax.Array, name: str):
        network = trainer.train(loss, images, extra, name)
        return network, trainer.outputs(loss, network, test, extra)

    _, soft = outputs(cross_entropy, train, identity, "softmax")
    sparse_network, sparse = outputs(simplex_loss, train, identity, "sparsemax")
    order_network, p = outputs(simplex_loss, train, at_least, "total order")
    unordered = outputs(squared_loss, train, at_least, "no order")[1]
    ordered = p @ AT_LEAST.T
    trainer.steps *= 2
    noisy = [
        outputs(cross_entropy, wrong, identity, "softmax, wrong labels")[1],
        outputs(lml_loss, wrong, k, "LML, wrong labels")[1],
    ]

    scores = np.stack([np.asarray(net(test.pixels)) for net in (sparse_network, order_network)])
    distance = distances_to_closed_forms(sparse, ordered, scores)
    print(f"closed forms: {distance:.1e} off   {verdict(distance <= TO_CLOSED_FORM)}")
    right = accuracy(soft, labels), accuracy(sparse, labels)
    support = float(np.mean(np.sum(sparse > 1e-6, axis=1)))
    good = args.fast or (right[1] >= right[0] - ACCURACY_LOST and support <= SUPPORT)
    print(f"accuracy: softmax {right[0]:.2%}, sparsemax {right[1]:.2%}", end=" ")
    print(f"with {support:.2f} labels an image   {verdict(good)}")
    truth = labels @ AT_LEAST.T
    errors = [float(np.mean(np.sum((c - truth) ** 2, axis=1))) for c in (unordered, ordered)]
    disorder = float(np.mean(np.any(np.diff(unordered, axis=1) > 1e-6, axis=1)))
    good = args.fast or errors[1] <= TO_UNORDERED * errors[0]
    print(f"squared error: {errors[0]:.4f} ({disorder:.0%} out of order)", end=", ")
    print(f"{errors[1]:.4f} in order   {verdict(good)}")
    tops = [[accuracy(x, labels, count) for count in range(1, 6)] for x in noisy]
    wrongs = [1 - each[LABELS - 1] for each in tops]
    print(f"wrong labels, error of the best {LABELS}: softmax {wrongs[0]:.2%}", end=", ")
    print(f"LML {wrongs[1]:.2%}   {verdict(args.fast or wrongs[1] <= TO_SOFTMAX * wrongs[0])}")

    doubtful = int(np.argmax(np.sum(sparse > 1e-6, axis=1)))
    disordered = int(np.argmax(np.max(np.diff(unordered, axis=1), axis=1)))
    shown = Shown(
        doubtful=np.asarray(test.pixels[doubtful]),
        softmax=soft[doubtful],
        sparsemax=sparse[doubtful],
        disordered=np.asarray(test.pixels[disordered]),
        unordered=unordered[disordered],
        ordered=ordered[disordered],
    )
    supports = [np.sum(each > 1e-6, axis=1) for each in (soft, sparse)]
    save_figure(args.output, shown, supports, tops, LABELS)
    print(f"figure: {args.output}")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
