r"""Recovery of noisy-OR networks by level of overparameterization.

    python -m experiments.noisy_or --workdir runs/img
    python -m experiments.noisy_or --workdir runs/mine --samples mine.csv
    python -m experiments.noisy_or --workdir runs/rates --theta_rate 0.04,0.1
    python -m experiments.noisy_or --workdir runs/mean_field --learner mean_field

Draws 10 000 samples of IMG, learns networks of 8, 16 and 32 latents from them, 16
seeds each, for 100 epochs, and counts the true latents that come back: a minute and a
half on two cores. Expect all eight truths in about a fifth of the runs with 8 latents,
and in four fifths of those with 16. Rates are the study's for the data set and level,
and so are the batches and epochs of learners other than nvil.
"""

import dataclasses
import functools
import itertools

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
_LEARNERS = {
    "nvil": (noisy_or.nvil, noisy_or.NvilHyperparams),
    "mean_field": (noisy_or.mean_field, noisy_or.MeanFieldHyperparams),
    "em": (noisy_or.em, noisy_or.EmHyperparams),
    "gradient_em": (noisy_or.gradient_em, noisy_or.GradientEmHyperparams),
}
_SWEEP = cli.Sweep(
    {name: hyperparams for name, (_, hyperparams) in _LEARNERS.items()},
    levels=[8, 16, 32],
)
_RECURRING = cli.Recurring(
    lambda latents: 1 - latents["failure"], "P(on) of a variable by the latent alone"
)
_CRITIC = flags.DEFINE_bool(
    "critic",
    True,
    "Whether a critic is subtracted from nvil's learning signal, as in the paper.",
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
        cli.refuse("--data_dir", "num_samples", "data_seed")
        return noisy_or.read_dataset(_DATA.data_dir, _DATA.dataset)
    if _DATA.dataset not in noisy_or.NAMES:
        raise ValueError(
            f"expected a data set among {', '.join(noisy_or.NAMES)}, or --data_dir to "
            f"read another from, got {_DATA.dataset!r}"
        )
    return noisy_or.make(_DATA.dataset, lvm_jax.key(seed), _DATA.num_samples)


def _task(seed: int) -> lvm_jax.Task:
    learner, _ = _LEARNERS[_SWEEP.learner]
    if not _CRITIC.value:
        cli.refuse("--nocritic", "critic_rate")
        learner = functools.partial(learner, use_critic=False)
    return noisy_or.task(_dataset(seed), learner, **_DATA.split(seed))


def _measure(results: lvm_jax.Results, task: lvm_jax.Task) -> dict[str, np.ndarray]:
    return measure(noisy_or.held_out_log_likelihood(task), results)


def _plot_latents(task: lvm_jax.Task, results: lvm_jax.Results) -> Figure:
    level, params, live = cli.pictured(results)
    model = noisy_or.network(params)
    return report.plot_pictures(
        np.asarray(1 - task.truth.failure),
        np.asarray(1 - model.failure)[:level],
        jax.jit(noisy_or.recover)(task.truth, model, live),
        title=f"{task.name}: 1 - failure, first run with {level} latents",
    )


def _plan() -> lvm_jax.Plan:
    """The study's for the learner, or at the rates of --rate.

    Raises:
      ValueError: if flags are out of range or do not go together.
    """
    learner, dataset = _SWEEP.learner, _dataset(_DATA.seeds[0])
    if learner != "nvil":
        for flag, is_given in (("nocritic", not _CRITIC.value), ("rate", _RATE.value)):
            if is_given:
                raise ValueError(f"expected --learner nvil for --{flag}, got {learner}")
        study = noisy_or.training(dataset, learner)
        batch_size = study.batch_size or len(_task(_DATA.seeds[0]).train)
        _SWEEP.set_defaults(batch_size=batch_size, epochs=study.num_epochs)
    settings, snapshot_every = noisy_or.published(
        dataset, _SWEEP.levels, _SWEEP.batch_size, learner
    )
    plan = _SWEEP.plan(settings, snapshot_every=snapshot_every)
    return plan if _RATE.value is None else _at_rates(plan)


def _at_rates(plan: lvm_jax.Plan) -> lvm_jax.Plan:
    """The plan at each rate of --rate, for both networks at all levels."""
    cli.refuse("--rate", *_BOTH)
    settings = {}
    for name, rate in itertools.product(plan.settings, map(float, _RATE.value)):
        prefix = f"{name} " if len(plan.settings) > 1 else ""
        setting = f"{prefix}rate={rate:g}"
        if setting in settings:
            raise ValueError(f"expected rates without repeats, got {rate:g} twice")
        settings[setting] = {
            level: plan.hyperparams(level, name)._replace(**dict.fromkeys(_BOTH, rate))
            for level in plan.levels
        }
    return dataclasses.replace(plan, settings=settings)


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    _SWEEP.start()
    plan = _plan()
    _RECURRING.check(plan, _DATA.seeds)
    trained = _SWEEP.train_each(_task, _DATA.seeds, plan)
    results, task = next(iter(trained.values()))
    truth, figures = {}, {}
    if task.truth is not None:
        truth[_LOG_LIKELIHOOD] = cli.mean_of_truths(
            noisy_or.true_log_likelihood, trained
        )
        figures["latents.png"] = functools.partial(_plot_latents, task, results)
    cli.report(
        _SWEEP.workdir,
        trained,
        _HEADERS,
        measures=_measure,
        truth=truth,
        figures=figures,
    )
    _RECURRING.report(_SWEEP, trained, _DATA.names())


if __name__ == "__main__":
    cli.run(main)
