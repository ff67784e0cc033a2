r"""Recovery of noisy-OR networks by level of overparameterization.

    python -m experiments.noisy_or --workdir runs/img
    python -m experiments.noisy_or --workdir runs/mine --samples mine.csv
    python -m experiments.noisy_or --workdir runs/rates --theta_rate 0.04,0.1

Draws 10 000 samples of IMG, learns networks of 8, 16 and 32 latents from them, 16
seeds each, for 100 epochs, and counts the true latents that come back: a minute and a
half on two cores. Expect all eight truths in about a fifth of the runs with 8 latents,
and in four fifths of those with 16. Rates are the study's for the data set and level.
"""

import dataclasses
import functools

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

import lvm_jax
from experiments import cli
from lvm_jax import measure, noisy_or, report
from lvm_jax.types import Dataset

_DATA = cli.Data(
    "IMG",
    f"Data set: one of {', '.join(noisy_or.NAMES)}, drawn anew; or with --data_dir one "
    "of the release's, such as PLNT.",
)
_SWEEP = cli.Sweep(noisy_or.NvilHyperparams, levels=[8, 16, 32])
_CRITIC = flags.DEFINE_bool(
    "critic",
    True,
    "Whether a critic is subtracted from the learning signal, as in the paper.",
)
_BOTH = ("theta_rate", "q_rate")
_RATE = cli.define_numbers(
    "rate",
    "One rate for the network and the recognition network, at all levels. Several, "
    "separated by commas, are trained side by side.",
)

_LOG_LIKELIHOOD = "held_out_log_likelihood"
_HEADERS = {
    "held_out_elbo": "held-out ELBO, nats",
    _LOG_LIKELIHOOD: "held-out log P(x), nats",
}


@functools.lru_cache(1)
def _dataset(seed: int) -> Dataset:
    if _DATA.is_own:
        return _DATA.own(noisy_or.read_truth)
    if _DATA.data_dir is not None:
        if len(_DATA.seeds) > 1:
            raise ValueError("expected one --data_seed of published samples, got more")
        return noisy_or.read_dataset(_DATA.data_dir, _DATA.dataset)
    if _DATA.dataset not in noisy_or.NAMES:
        raise ValueError(
            f"expected a data set among {', '.join(noisy_or.NAMES)}, or --data_dir to "
            f"read another from, got {_DATA.dataset!r}"
        )
    return noisy_or.make(_DATA.dataset, lvm_jax.key(seed), _DATA.num_samples)


def _task(seed: int) -> lvm_jax.Task:
    learner = noisy_or.nvil
    if not _CRITIC.value:
        learner = functools.partial(learner, use_critic=False)
    return noisy_or.task(_dataset(seed), learner, **_DATA.split(seed))


def _measure(results: lvm_jax.Results, task: lvm_jax.Task) -> dict[str, np.ndarray]:
    return measure(noisy_or.held_out_log_likelihood(task), results)


def _plot_latents(task: lvm_jax.Task, results: lvm_jax.Results) -> Figure:
    level, params, live = cli.pictured(results)
    return report.plot_pictures(
        np.asarray(1 - task.truth.failure),
        np.asarray(1 - params.model.failure)[:level],
        jax.jit(noisy_or.recover)(task.truth, params.model, live),
        title=f"{task.name}: 1 - failure, first run with {level} latents",
    )


def _plan() -> lvm_jax.Plan:
    """At the study's rates, or with --rate at each of these for both networks.

    Raises:
      ValueError: if flags are out of range or do not go together.
    """
    levels = _SWEEP.levels
    base, snapshot_every = noisy_or.published(
        _dataset(_DATA.seeds[0]), levels, _SWEEP.batch_size
    )
    plan = _SWEEP.plan(base, snapshot_every=snapshot_every)
    if _RATE.value is None:
        return plan
    for name in _BOTH:
        if flags.FLAGS[name].present:
            raise ValueError(f"expected --rate or --{name}, got both")
    rates = {f"rate={rate:g}": rate for rate in map(float, _RATE.value)}
    settings = {
        f"{text} {name}" if len(plan.settings) > 1 else text: {
            level: plan.hyperparams(level, name)._replace(**dict.fromkeys(_BOTH, rate))
            for level in levels
        }
        for text, rate in rates.items()
        for name in plan.settings
    }
    return dataclasses.replace(plan, settings=settings)


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    _SWEEP.start()
    plan = _plan()
    trained = _SWEEP.train_each(_task, _DATA.seeds, plan)
    results, task = next(iter(trained.values()))
    truth, figures = {}, {}
    if task.truth is not None:
        truth[_LOG_LIKELIHOOD] = cli.mean_of_truths(
            noisy_or.true_log_likelihood, trained
        )
        figures["latents.png"] = functools.partial(_plot_latents, task, results)
    _SWEEP.report(trained, _HEADERS, measures=_measure, truth=truth, figures=figures)


if __name__ == "__main__":
    cli.run(main)
