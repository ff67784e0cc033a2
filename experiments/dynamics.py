r"""The course of learning of noisy-OR networks, seen and intervened in.

    python -m experiments.dynamics --workdir runs/dynamics/IMG_early --trace \
        --levels 8,16,32,64 --num_seeds 64 --epochs 10 --records_per_epoch 45
    python -m experiments.dynamics --workdir runs/dynamics/IMG_pruned \
        --learner pruned --at 1,3,10,30,100 --levels 16 --num_seeds 64 --epochs 200

With --trace the results hold, at every record, what each latent is and which truth it
is nearest to. --learner says whether latents change while a run learns: `pruned` keeps,
after --at epochs, those that survive the filter; `grown` starts with half of them, and
fresh ones join; `renewed` draws anew, every so many epochs, those that the filter
drops; `nearest` starts from those of 64 that an oracle finds nearest to the truths. The
rule that these are read by, and what came out, is in experiments/dynamics.md.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure

import lvm_jax
from experiments import cli
from lvm_jax import noisy_or, recovery
from lvm_jax.noisy_or import dynamics, revision
from lvm_jax.report import plot_moments
from lvm_jax.sweep.plan import width
from lvm_jax.types import Learner

_NUM_CANDIDATES = 64  # of which `nearest` starts from some
_UNTIL = 150  # epochs after which nothing is renewed
_MOMENTS = (1 / 9, 2 / 9, 3 / 9, 10, 20, 30)  # epochs, that the study shows
_NAMES = ("1/9 epoch", "2/9", "3/9", "10 epochs", "20 epochs", "30 epochs")
_ROUNDING = 1e-6  # of a record's epoch


class Revised(NamedTuple):
    """Rates of NVIL, and when its latents change.

    Attributes:
      theta_rate: Adam's learning rate for the network.
      q_rate: Adam's learning rate for the recognition network.
      critic_rate: learning rate of the critic's plain gradient descent.
      at: epochs after which latents change, or of `renewed` between two changes.
    """

    theta_rate: float = 0.04
    q_rate: float = 0.04
    critic_rate: float = 1e-4
    at: float = 10.0


def _nvil(num_observed: int, hyperparams: Revised) -> Learner:
    return noisy_or.nvil(num_observed, noisy_or.NvilHyperparams(*hyperparams[:3]))


def pruned(num_observed: int, hyperparams: Revised) -> Learner:
    """NVIL of which, after `at` epochs, the survivors of the filter go on."""
    revise = revision.pruned(hyperparams.at)
    return _nvil(num_observed, hyperparams)._replace(revise=revise)


def grown(num_observed: int, hyperparams: Revised) -> Learner:
    """NVIL with the first half of the latents alone for `at` epochs."""

    def revise(key, state, live, num_epochs):
        revise = revision.grown(hyperparams.at, live.size // 2, live.size)
        return revise(key, state, live, num_epochs)

    return _nvil(num_observed, hyperparams)._replace(revise=revise)


def renewed(num_observed: int, hyperparams: Revised) -> Learner:
    """NVIL that draws anew, every `at` epochs, what the filter drops."""
    revise = revision.renewed(hyperparams.at, _UNTIL)
    return _nvil(num_observed, hyperparams)._replace(revise=revise)


def nearest(
    truth: noisy_or.NoisyOr, num_observed: int, hyperparams: noisy_or.NvilHyperparams
) -> Learner:
    """NVIL from those of 64 latents that are assigned to the truths at the start.

    An oracle, for it sees the truth. Its levels are the number of truths.
    """
    plain = noisy_or.nvil(num_observed, hyperparams)

    def init(key, live, train):
        candidates = jnp.ones(_NUM_CANDIDATES, live.dtype)
        drawn = plain.init(key, candidates, train).params
        cost, _ = dynamics.distances(truth, drawn.model)
        chosen = recovery.assign(cost, candidates > 0, recovery.FORBIDDEN)
        few = plain.init(key, live, train)
        model, q = drawn
        params = noisy_or.Params(
            model._replace(
                prior_logits=model.prior_logits[chosen],
                failure_logits=model.failure_logits[chosen],
            ),
            q._replace(weight=q.weight[chosen], bias=q.bias[chosen]),
        )
        return few._replace(params=params)

    return plain._replace(init=init)


_DATA = cli.Drawn(10_000)
_DATASET = flags.DEFINE_enum("dataset", "IMG", noisy_or.NAMES, "What is drawn anew.")
_LEARNERS = {
    "whole": noisy_or.nvil,
    "pruned": pruned,
    "grown": grown,
    "renewed": renewed,
    "nearest": nearest,
}
_SWEEP = cli.Sweep(
    {
        name: Revised
        if name in ("pruned", "grown", "renewed")
        else noisy_or.NvilHyperparams
        for name in _LEARNERS
    },
    levels=[8, 16],
)
_TRACE = flags.DEFINE_bool(
    "trace", False, "Whether what latents are is recorded beside what is recovered."
)
_PICTURES = flags.DEFINE_bool(
    "pictures",
    False,
    "With --trace, records the latents themselves, and draws those of the first run at "
    "those of the study's six moments that have a record.",
)


def trace(
    truth: noisy_or.NoisyOr, model: noisy_or.NoisyOr, live: chex.Array, held_out: Any
) -> dict[str, chex.Array]:
    """What `noisy_or.trace` sees, and `relative` [T, K] distances in half precision."""
    _, relative = dynamics.distances(truth, model)
    seen = noisy_or.trace(truth, model, live, held_out)
    return {**seen, "relative": relative.astype(jnp.float16)}


def trace_pictures(
    truth: noisy_or.NoisyOr, model: noisy_or.NoisyOr, live: chex.Array, held_out: Any
) -> dict[str, chex.Array]:
    """What `trace` sees, and `failure` [K, D] in half precision."""
    seen = trace(truth, model, live, held_out)
    return {**seen, "failure": model.failure.astype(jnp.float16)}


def _learner(truth: noisy_or.NoisyOr) -> Callable[..., Learner]:
    learner = _LEARNERS[_SWEEP.learner]
    return functools.partial(nearest, truth) if learner is nearest else learner


def _task(seed: int) -> lvm_jax.Task:
    dataset = noisy_or.make(_DATASET.value, lvm_jax.key(seed), _DATA.num_samples)
    task = noisy_or.task(dataset, _learner(dataset.truth), **_DATA.split(seed))
    if not _TRACE.value:
        return task
    seen = trace_pictures if _PICTURES.value else trace
    return dataclasses.replace(task, trace=seen)


def _plot_moments(results: lvm_jax.Results) -> Figure:
    level = results.plan.levels[-1]
    traces = {name: of[0, 0] for name, of in results.traces[level].items()}
    off = np.abs(results.epochs[:, None] - np.array(_MOMENTS))
    known = np.flatnonzero(off.min(0) < _ROUNDING)
    places, names = off.argmin(0)[known], [_NAMES[moment] for moment in known]
    return plot_moments(
        1 - traces["failure"][places].astype(float),
        traces["state"][places, 0],
        traces["nearest"][places],
        names,
        title=f"{results.name}: the {level} latents of a run",
    )


def _plan() -> lvm_jax.Plan:
    levels = _SWEEP.levels
    dataset = noisy_or.make(_DATASET.value, lvm_jax.key(0), 100)
    settings, snapshot_every = noisy_or.published(dataset, levels, _SWEEP.batch_size)
    num_truths = dataset.truth.prior_logits.size
    if _SWEEP.learner == "nearest" and levels != (num_truths,):
        raise ValueError(
            f"expected one level for --learner nearest, {num_truths}, the number of "
            f"truths, got {','.join(map(str, levels))}"
        )
    for level in levels:
        if width(level) != level:
            raise ValueError(f"expected levels without padding, got {level}")
    if _SWEEP.learner in ("whole", "nearest"):
        return _SWEEP.plan(settings, snapshot_every=snapshot_every)
    settings = {level: Revised(*rates) for level, rates in settings.items()}
    plan = _SWEEP.plan(settings, snapshot_every=snapshot_every)
    for name in plan.settings:
        at = plan.hyperparams(levels[0], name).at
        if at % 1 or not 1 <= at < _SWEEP.num_epochs:
            raise ValueError(
                f"expected --at of whole epochs, from 1 to before the last, got {at:g}"
            )
    return plan


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    _SWEEP.start()
    if _PICTURES.value and not _TRACE.value:
        raise ValueError("expected --trace with --pictures, got none")
    trained = _SWEEP.train_each(_task, _DATA.seeds, _plan())
    figures = {}
    if _PICTURES.value:
        results, _ = next(iter(trained.values()))
        figures["moments.png"] = functools.partial(_plot_moments, results)
    headers = {"held_out_elbo": "held-out ELBO, nats"}
    cli.report(_SWEEP.workdir, trained, headers, figures=figures)


if __name__ == "__main__":
    cli.run(main)
