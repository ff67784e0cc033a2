r"""Recovery of noisy-OR networks by level of overparameterization.

    python -m experiments.noisy_or --workdir runs/img
    python -m experiments.noisy_or --workdir runs/mine --samples mine.csv
    python -m experiments.noisy_or --workdir runs/rates --theta_rate 0.04,0.1

Draws 10 000 samples of IMG, learns networks of 8, 16 and 32 latents from them, 16
seeds each, for 100 epochs, and counts the true latents that come back: a minute and a
half on two cores. Expect all eight truths in about a fifth of the runs with 8 latents,
and in four fifths of those with 16. Rates are the study's for the data set and level.
"""

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

_LOG_LIKELIHOOD = "held_out_log_likelihood"
_HEADERS = {
    "held_out_elbo": "held-out ELBO, nats",
    _LOG_LIKELIHOOD: "held-out log P(x), nats",
}


def _dataset() -> Dataset:
    if _DATA.is_own:
        return _DATA.own(noisy_or.read_truth)
    if _DATA.data_dir is not None:
        return noisy_or.read_dataset(_DATA.data_dir, _DATA.dataset)
    if _DATA.dataset not in noisy_or.NAMES:
        raise ValueError(
            f"expected a data set among {', '.join(noisy_or.NAMES)}, or --data_dir to "
            f"read another from, got {_DATA.dataset!r}"
        )
    return noisy_or.make(_DATA.dataset, _DATA.key, _DATA.num_samples)


def _plot_latents(task: lvm_jax.Task, results: lvm_jax.Results) -> Figure:
    level, params, live = cli.pictured(results)
    return report.plot_pictures(
        np.asarray(1 - task.truth.failure),
        np.asarray(1 - params.model.failure)[:level],
        jax.jit(noisy_or.recover)(task.truth, params.model, live),
        title=f"{task.name}: 1 - failure, first run with {level} latents",
    )


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    _SWEEP.start()
    dataset, learner = _dataset(), noisy_or.nvil
    if not _CRITIC.value:
        learner = functools.partial(learner, use_critic=False)
    task = noisy_or.task(dataset, learner, **_DATA.split)
    rates, snapshot_every = noisy_or.published(
        dataset, _SWEEP.levels, _SWEEP.batch_size
    )
    plan = _SWEEP.plan(rates, snapshot_every=snapshot_every)
    results, task = _SWEEP.train(task, plan)
    truth, figures = {}, {}
    if task.truth is not None:
        truth[_LOG_LIKELIHOOD] = noisy_or.true_log_likelihood(task)
        figures["latents.png"] = functools.partial(_plot_latents, task, results)
    measures = measure(noisy_or.held_out_log_likelihood(task), results)
    _SWEEP.report(results, _HEADERS, measures=measures, truth=truth, figures=figures)


if __name__ == "__main__":
    cli.run(main)
