r"""How much estimates of the recognition network's gradient vary.

    python -m experiments.gradient_variances --dataset IMG --tables runs/tables

At parameters that NVIL has reached with 16 latents after 1, 10 and 100 epochs: the
variance of each estimate over batches and draws, by the squared length of its mean.
Writes IMG_variances.csv, a row for each moment, run and estimator. The rule that it is
read by is in experiments/dynamics.md.
"""

import itertools
import math
import pathlib
from typing import Any

import chex
import jax
import jax.numpy as jnp
from absl import flags

import lvm_jax
from experiments import cli
from experiments.estimators import ESTIMATORS, Rate
from lvm_jax import noisy_or, numerics
from lvm_jax.files import table
from lvm_jax.noisy_or import variational
from lvm_jax.types import Learner

_BATCH_SIZES = {"nvil of 80": 80}  # where it is not 20, by name in the table
_MOMENTS = (1, 10, 100)  # epochs
_LEVEL, _SEEDS = 16, range(4)
_NUM_DRAWS = 2000  # of a gradient, each of a batch of its own

_DATA = cli.Drawn(10_000)
_DATASET = flags.DEFINE_enum("dataset", "IMG", noisy_or.NAMES, "What is drawn anew.")
_TABLES = flags.DEFINE_string(
    "tables", "experiments/dynamics", "Folder that the table is written into."
)


def _of_estimator(state: Any, learner: Learner, live: chex.Array, train: Any) -> Any:
    """A state of NVIL as another estimator has it, with the same parameters."""
    own = jax.eval_shape(learner.init, lvm_jax.key(0), live, train)
    if not isinstance(own, variational.State):
        return state
    return variational.State(state.params, state.optimizers)


def relative_variance(
    learner: Learner, state: Any, live: chex.Array, train: chex.Array, batch_size: int
) -> float:
    """How much the gradient of a recognition network's weights varies.

    The sum of their variances over random batches and draws, by the squared length of
    the mean; infinite where that cannot be told from zero. Adam takes no notice of a
    gradient's scale, and estimators differ in it.

    Args:
      learner: with Adam for the recognition network.
      state: at which the gradient is taken.
      live: mask of the latents.
      train: [N, ceil(D / 32)] packed samples.
      batch_size: B.
    """

    @jax.jit
    def gradient(key):
        batch_key, key = jax.random.split(key)
        place = jax.random.randint(batch_key, (batch_size,), 0, len(train))
        new, _ = learner.step(key, state, live, jnp.asarray(train)[place])
        # Adam's first moment is 0.9 of the old and 0.1 of the gradient.
        old, new = (of.optimizers.q[0].mu.weight for of in (state, new))
        return (new - 0.9 * old) / 0.1

    gradients = jax.lax.map(gradient, jax.random.split(lvm_jax.key(1), _NUM_DRAWS))
    # The squared length of one mean would be too large by its own variance.
    halves = gradients.reshape(2, -1, *gradients.shape[1:]).mean(1)
    squared = float((halves[0] * halves[1]).sum())
    variance = float(gradients.var(0, ddof=1).sum())
    return variance / squared if squared > 0 else math.inf


@numerics.settings()
def _rows() -> list[dict[str, Any]]:
    """A row for each moment, run and estimator."""
    rows = []
    nvil, seed = ESTIMATORS["nvil"], _DATA.seed
    dataset = noisy_or.make(_DATASET.value, lvm_jax.key(seed), _DATA.num_samples)
    task = noisy_or.task(dataset, nvil, **_DATA.split(seed))
    plan = lvm_jax.Plan(
        levels=(_LEVEL,),
        seeds=_SEEDS,
        settings={"nvil": Rate(0.04 if task.name == "IMG" else 0.1)},
    )
    sweep = lvm_jax.Sweep(task, plan)
    runs, done = sweep.init(), 0
    estimators = [*ESTIMATORS.items(), *((name, nvil) for name in _BATCH_SIZES)]
    for moment in _MOMENTS:
        for chunk in sweep.train(runs, done, moment):
            runs = chunk.runs
        done = moment
        (own,) = sweep.gather(runs)
        for seed, (name, make) in itertools.product(_SEEDS, estimators):
            state, live = jax.tree.map(
                lambda leaf, at=seed: leaf[at], (own.state, own.live)
            )
            learner = make(task.truth.noise_logits.size, Rate())
            variance = relative_variance(
                learner,
                _of_estimator(state, learner, live, task.train),
                live,
                task.train,
                _BATCH_SIZES.get(name, plan.batch_size),
            )
            rows.append(
                {
                    "dataset": task.name,
                    "epoch": moment,
                    "seed": seed,
                    "estimator": name,
                    "relative_variance": variance,
                }
            )
    return rows


def main() -> None:
    """Measures, and writes the table."""
    folder = pathlib.Path(_TABLES.value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_DATASET.value}_variances.csv"
    table.write_rows(path, _rows())
    print(f"table: {path}")


if __name__ == "__main__":
    cli.run(main)
