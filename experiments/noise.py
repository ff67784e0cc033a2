r"""Does the noise of a gradient help noisy-OR networks to recover?

    python -m experiments.noise --workdir runs/noise/IMG_rloo4 --dataset IMG \
        --estimator rloo4 --levels 8,16,32 --num_seeds 32 --epochs 100

Learns with one estimator of the recognition network's gradient: `nvil`, and NVIL with
noise added to its learning signal (`noisy1`, `noisy3`); several draws that are each
other's baseline (`rloo2`, `rloo4`, `rloo8`); the exact expectation over each latent in
turn (`local_expectation`). The rate of both networks is tuned for each
level first, in a workdir beside, by the objective on the samples that choose. With
--variances it measures instead, at parameters that NVIL has reached, how much each
estimate varies. The rule that these are read by is in experiments/dynamics.md.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import lvm_jax
from experiments import cli
from lvm_jax import noisy_or, numerics
from lvm_jax.files import table
from lvm_jax.noisy_or import variational
from lvm_jax.training import measure, show
from lvm_jax.types import Learner

RATES = (0.01, 0.04, 0.1)
_TUNING_SEEDS = range(1000, 1008)
_CRITIC_RATE = 1e-4
_HEADERS = {
    "held_out_elbo": "held-out ELBO, nats",
    "held_out_log_likelihood": "held-out log P(x), nats",
}
_BATCH_SIZES = {"nvil of 80": 80}  # where it is not 20, in a table of variances
_MOMENTS = (1, 10, 100)  # epochs after which variances are measured
_VARIANCE_LEVEL, _VARIANCE_SEEDS = 16, range(4)
_NUM_DRAWS = 2000  # of a gradient, each of a batch of its own


class Rate(NamedTuple):
    """What an estimator is tuned by.

    Attributes:
      rate: Adam's learning rate for the network and the recognition network.
    """

    rate: float = 0.04


def _of_nvil(num_observed: int, hyperparams: Rate, **options: Any) -> Learner:
    rates = noisy_or.NvilHyperparams(hyperparams.rate, hyperparams.rate, _CRITIC_RATE)
    return noisy_or.nvil(num_observed, rates, **options)


def _without_critic(
    learner: Callable[..., Learner],
    num_observed: int,
    hyperparams: Rate,
    **options: Any,
) -> Learner:
    rates = noisy_or.VariationalHyperparams(hyperparams.rate, hyperparams.rate)
    return learner(num_observed, rates, **options)


ESTIMATORS = {
    "nvil": _of_nvil,
    "noisy1": functools.partial(_of_nvil, signal_noise=1.0),
    "noisy3": functools.partial(_of_nvil, signal_noise=3.0),
    "rloo2": functools.partial(_without_critic, noisy_or.rloo, num_draws=2),
    "rloo4": functools.partial(_without_critic, noisy_or.rloo, num_draws=4),
    "rloo8": functools.partial(_without_critic, noisy_or.rloo, num_draws=8),
    "local_expectation": functools.partial(_without_critic, noisy_or.local_expectation),
}

_DATA = cli.Drawn(10_000)
_DATASET = flags.DEFINE_enum("dataset", "IMG", noisy_or.NAMES, "What is drawn anew.")
_ESTIMATOR = flags.DEFINE_enum(
    "estimator", "nvil", list(ESTIMATORS), "Of the recognition network's gradient."
)
_VARIANCES = flags.DEFINE_bool(
    "variances", False, "Measure how estimates vary, and do not learn with one."
)
_SWEEP = cli.Sweep(Rate, levels=[8, 16])
_OF_LEARNING = (
    *("estimator", "rate", "levels", "num_seeds", "seed", "epochs", "batch_size"),
    *("records_per_epoch", "epochs_per_call", "checkpoint_every", "block"),
    *("memory_limit", "overwrite", "dry_run"),
)


def _task(learner: Callable[..., Learner]) -> lvm_jax.Task:
    seed = _DATA.seed
    dataset = noisy_or.make(_DATASET.value, lvm_jax.key(seed), _DATA.num_samples)
    return noisy_or.task(dataset, learner, **_DATA.split(seed))


def tuned(results: lvm_jax.Results) -> dict[int, Rate]:
    """The rate of each level with the highest mean objective of what runs keep.

    Args:
      results: whose settings are rates. A run that has diverged has the least objective
        of all.
    """
    best = {}
    for level, kept in results.kept.items():
        known = np.where(kept.diverged, -np.inf, kept.objective)
        setting = list(results.plan.settings)[known.mean(1).argmax()]
        best[level] = results.plan.hyperparams(level, setting)
    return best


def _learn() -> None:
    if flags.FLAGS["rate"].present:
        raise ValueError("expected no --rate, which is tuned, got one")
    task = _task(ESTIMATORS[_ESTIMATOR.value])
    rates = {f"rate={rate:g}": Rate(rate) for rate in RATES}
    # The model of the last epoch is kept: as many steps, whatever the batch.
    asked = _SWEEP.plan(
        dict.fromkeys(_SWEEP.levels, Rate()), snapshot_every=_SWEEP.num_epochs
    )
    tuning = dataclasses.replace(asked, settings=rates, seeds=tuple(_TUNING_SEEDS))
    found = _SWEEP.prepare(
        task, tuning, _SWEEP.num_epochs, name="tuning", progress=show
    )
    best = dict.fromkeys(_SWEEP.levels, Rate()) if found is None else tuned(found)
    plan = dataclasses.replace(asked, settings={"tuned": best})
    trained = {_DATA.seed: _SWEEP.train(task, plan)}
    cli.report(_SWEEP.workdir, trained, _HEADERS, measures=_measure)


def _measure(results: lvm_jax.Results, task: lvm_jax.Task) -> dict[str, np.ndarray]:
    return measure(noisy_or.held_out_log_likelihood(task), results)


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
def _variances() -> list[dict[str, Any]]:
    """A row for each moment, run and estimator."""
    rows = []
    task = _task(_of_nvil)
    plan = lvm_jax.Plan(
        levels=(_VARIANCE_LEVEL,),
        seeds=_VARIANCE_SEEDS,
        settings={"nvil": Rate(0.04 if task.name == "IMG" else 0.1)},
    )
    sweep = lvm_jax.Sweep(task, plan)
    runs, done = sweep.init(), 0
    estimators = [*ESTIMATORS.items(), *((name, _of_nvil) for name in _BATCH_SIZES)]
    for moment in _MOMENTS:
        for chunk in sweep.train(runs, done, moment):
            runs = chunk.runs
        done = moment
        (own,) = sweep.gather(runs)
        for seed, (name, make) in itertools.product(_VARIANCE_SEEDS, estimators):
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
    """Learns with an estimator, or measures all of them."""
    _SWEEP.start()
    if not _VARIANCES.value:
        _learn()
        return
    cli.refuse("--variances", *_OF_LEARNING)
    _SWEEP.workdir.mkdir(parents=True, exist_ok=True)
    table.write_rows(_SWEEP.workdir / "variances.csv", _variances())
    print(f"variances.csv is in {_SWEEP.workdir}")


if __name__ == "__main__":
    cli.run(main)
