r"""Does the noise of a gradient help noisy-OR networks to recover?

    python -m experiments.noise --workdir runs/noise/IMG_rloo4 --dataset IMG \
        --estimator rloo4 --levels 8,16,32 --num_seeds 32 --epochs 100

Learns with one estimator of the recognition network's gradient: `nvil`, and NVIL with
noise added to its learning signal (`noisy1`, `noisy3`); several draws that are each
other's baseline (`rloo2`, `rloo4`, `rloo8`); the exact expectation over each latent in
turn (`local_expectation`). The rate of both networks is tuned for each level first, in
a workdir beside, by the objective on the samples that choose. The rule that these are
read by is in experiments/dynamics.md.
"""

import dataclasses

import numpy as np
from absl import flags

import lvm_jax
from experiments import cli
from experiments.estimators import ESTIMATORS, Rate
from lvm_jax import noisy_or
from lvm_jax.training import measure, show

RATES = (0.01, 0.04, 0.1)
_TUNING_SEEDS = range(1000, 1008)
_HEADERS = {
    "held_out_elbo": "held-out ELBO, nats",
    "held_out_log_likelihood": "held-out log P(x), nats",
}

_DATA = cli.Drawn(10_000)
_DATASET = flags.DEFINE_enum("dataset", "IMG", noisy_or.NAMES, "What is drawn anew.")
_ESTIMATOR = flags.DEFINE_enum(
    "estimator", "nvil", list(ESTIMATORS), "Of the recognition network's gradient."
)
_SWEEP = cli.Sweep(Rate, levels=[8, 16])


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


def _measure(results: lvm_jax.Results, task: lvm_jax.Task) -> dict[str, np.ndarray]:
    return measure(noisy_or.held_out_log_likelihood(task), results)


def main() -> None:
    """Tunes the rate and learns with it."""
    _SWEEP.start()
    if flags.FLAGS["rate"].present:
        raise ValueError("expected no --rate, which is tuned, got one")
    seed, learner = _DATA.seed, ESTIMATORS[_ESTIMATOR.value]
    dataset = noisy_or.make(_DATASET.value, lvm_jax.key(seed), _DATA.num_samples)
    task = noisy_or.task(dataset, learner, **_DATA.split(seed))
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
    trained = {seed: _SWEEP.train(task, plan)}
    cli.report(_SWEEP.workdir, trained, _HEADERS, measures=_measure)


if __name__ == "__main__":
    cli.run(main)
