"""What the models of several runs have in common; no truth is needed."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from lvm_jax import recovery
from lvm_jax.recovery import Runs
from lvm_jax.recurrence import Consensus, recurring, repeated
from lvm_jax.sweep import devices
from lvm_jax.training.results import Results
from lvm_jax.types import Hyperparams, Level, MakeLearner, ModelFn, Task

_NUM_NEXT = 2  # larger levels that are to repeat what recurs


class Compared(NamedTuple):
    """Runs of a level and setting, and what the filter leaves of them.

    Attributes:
      runs: R of them.
      kept: [R, K] bool. The latents that survive; none of a run that has diverged.
    """

    runs: Runs
    kept: np.ndarray


class Recommendation(NamedTuple):
    """The level whose recurring latents are best borne out by larger ones.

    Attributes:
      level: the smallest of those with the most repeated latents; None if none has any.
      is_repeated: for each level but the largest, by size, [C] bool: whether a latent
        recurs at the next two larger levels too, or the next where there is no other.
    """

    level: Level | None
    is_repeated: dict[Level, np.ndarray]


def agreement(task: Task, results: Results) -> dict[Level, np.ndarray]:
    """How much of each run's model every other run of its level and setting has.

    Models are compared by the task's own rule, as a truth and a learned model are.

    Args:
      task: that was trained.
      results: of it.

    Returns:
      For each level [setting, seed, seed]: the share of the first run's latents that
      the second run has, survivors of the filter in both; NaN where none survives.

    Raises:
      ValueError: if the task has nothing to compare models by.
    """
    shares = {level: [] for level in results.plan.levels}
    for level, setting in _places(results):
        of = compared(task, results, level, setting)
        matched = matches(task, results, of, of)
        with np.errstate(invalid="ignore"):  # NaN where none survives
            shares[level].append(np.asarray(recovery.agreement(matched, of.kept)))
    return {level: np.stack(of_level) for level, of_level in shares.items()}


def num_survivors(task: Task, results: Results) -> dict[Level, np.ndarray]:
    """How many latents of each run survive the filter.

    Args:
      task: that was trained.
      results: of it.

    Returns:
      For each level [setting, seed].

    Raises:
      ValueError: if the task has nothing to compare models by.
    """
    plan = results.plan
    return {
        level: np.stack(
            [
                compared(task, results, level, setting).kept.sum(1)
                for setting in plan.settings
            ]
        )
        for level in plan.levels
    }


def consensus(
    task: Task, results: Results, share: float = 0.5
) -> dict[Level, list[Consensus]]:
    """Latents that recur in most runs of a level and setting; no truth is needed.

    Args:
      task: that was trained.
      results: of it, with two seeds at least.
      share: of the other runs that have to have a latent.

    Returns:
      For each level a Consensus of each setting, whose runs are the seeds.

    Raises:
      ValueError: if the task has nothing to compare models by, or there is one seed.
    """
    found = {level: [] for level in results.plan.levels}
    for level, setting in _places(results):
        of = compared(task, results, level, setting)
        place = list(results.plan.settings).index(setting)
        objective = results.kept[level].objective[place]
        matched = matches(task, results, of, of)
        recurs = recurring(matched, of.kept, objective, share)
        found[level].append(_described(task, results, of.runs, recurs))
    return found


def recommend(
    task: Task,
    results: Results,
    found: Mapping[Level, Sequence[Consensus]] | None = None,
) -> list[Recommendation]:
    """Which level's recurring latents to take; no truth is needed.

    What recurs at a level by accident does not recur at larger ones, and what a level
    is too small for recurs there for the first time. So a latent counts at its level if
    it recurs at the next two levels too, and the smallest level with the most of these
    is recommended. The largest level cannot be, and the one before it has but one level
    to be borne out by: where that is recommended, larger ones may have more.

    Args:
      task: that was trained.
      results: of it, with two levels and two seeds at least.
      found: of `consensus`, of the same; None if that is to be done.

    Returns:
      A Recommendation for each setting.

    Raises:
      ValueError: if the task has nothing to compare models by, or there is one level or
        seed.
    """
    levels = sorted(results.plan.levels, key=lambda level: sum(jax.tree.leaves(level)))
    if len(levels) < 2:
        raise ValueError(f"expected at least 2 levels to compare, got {len(levels)}")
    found = consensus(task, results) if found is None else found
    recommended = []
    for place, setting in enumerate(results.plan.settings):
        of = {
            level: (compared(task, results, level, setting), found[level][place])
            for level in levels
        }
        is_repeated = {
            level: _is_repeated(
                task, results, of, level, levels[after : after + _NUM_NEXT]
            )
            for after, level in enumerate(levels[:-1], 1)
        }
        recommended.append(_recommendation(is_repeated))
    return recommended


def _recommendation(is_repeated: dict[Level, np.ndarray]) -> Recommendation:
    """By the numbers of repeated latents of levels, the smallest level first."""
    numbers = {level: of_level.sum() for level, of_level in is_repeated.items()}
    best = max(numbers, key=numbers.get)  # the first of equals
    return Recommendation(best if numbers[best] else None, is_repeated)


def _is_repeated(
    task: Task,
    results: Results,
    of: Mapping[Level, tuple[Compared, Consensus]],
    level: Level,
    others: Sequence[Level],
) -> np.ndarray:
    """[C] bool. Which recurring latents of a level recur at all of the others."""
    runs, recurs = of[level]
    is_repeated = np.ones(len(recurs.member), bool)
    for other_runs, other_recurs in map(of.get, others):
        matched = matches(task, results, runs, other_runs)
        back = matches(task, results, other_runs, runs)
        is_repeated &= repeated(recurs, other_recurs, matched, back) >= 0
    return is_repeated


def compared(task: Task, results: Results, level: Level, setting: str) -> Compared:
    """The runs of a level and setting, filtered.

    Args:
      task: that was trained.
      results: of it.
      level: of the plan.
      setting: likewise.

    Raises:
      ValueError: if the task has nothing to compare models by.
    """
    if task.recover is None:
        raise ValueError(f"expected a task with `recover`, got {task.name} without")
    plan, kept = results.plan, results.kept[level]
    place = list(plan.settings).index(setting)
    params, live = jax.tree.map(lambda leaf: leaf[place], (kept.params, kept.live))
    model = _model(task.learner, plan.hyperparams(plan.levels[0], setting))
    with devices.settings(plan.precision):
        survivors = _survivors(
            model, task.recover, task.kind, (params, live), task.held_out
        )
    runs = Runs(model, params, live, task.kind)
    # What a diverged run has kept, if anything, is of before.
    return Compared(runs, jax.device_get(survivors) & ~kept.diverged[place][:, None])


def matches(task: Task, results: Results, of: Compared, others: Compared) -> np.ndarray:
    """[R, R', K]. `recovery.matches` of runs and others.

    Args:
      task: that was trained.
      results: of it.
      of: runs whose survivors are to be matched.
      others: runs that they are matched in.
    """
    model, *runs, kind = of.runs
    _, *runs_of_others, _ = others.runs
    with devices.settings(results.plan.precision):
        matched = _matches(
            model,
            task.recover,
            kind,
            runs,
            runs_of_others,
            (of.kept, others.kept),
            task.held_out,
        )
    return jax.device_get(matched)


def matched_truths(
    task: Task, results: Results, level: Level, setting: str
) -> np.ndarray:
    """[R, K]. `recovery.matched_truths` of the runs of a level and setting.

    Args:
      task: with a truth.
      results: of it, which need not have known the truth.
      level: of the plan.
      setting: likewise.
    """
    (model, *runs, kind), kept = compared(task, results, level, setting)
    with devices.settings(results.plan.precision):
        matched = _matched_truths(
            model, task.recover, kind, runs, kept, task.truth, task.held_out
        )
    return jax.device_get(matched)


@functools.lru_cache(16)
def _model(learner: MakeLearner, hyperparams: Hyperparams) -> ModelFn:
    """One function for all who compare, so that what is compiled for one is there."""
    return learner(hyperparams).model


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _survivors(model, recover, kind, runs, held_out):
    return recovery.survivors(Runs(model, *runs, kind), recover, held_out)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _matches(model, recover, kind, runs, others, kept, held_out):
    both = Runs(model, *runs, kind), Runs(model, *others, kind)
    return recovery.matches(*both, *kept, recover, held_out)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _matched_truths(model, recover, kind, runs, kept, truth, held_out):
    return recovery.matched_truths(
        Runs(model, *runs, kind), kept, truth, recover, held_out
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _latents(model, latents, runs):
    return jax.lax.map(lambda run: latents(model(*run)), runs)


def _described(
    task: Task, results: Results, runs: Runs, recurs: Consensus
) -> Consensus:
    """A consensus with the parameters of its medoids and their spread."""
    if task.latents is None:
        return recurs
    with devices.settings(results.plan.precision):
        values = jax.device_get(
            _latents(runs.model, task.latents, (runs.params, runs.live))
        )
    latents, spread = {}, {}
    for name, of_runs in values.items():
        of_member = [
            of_runs[member >= 0, member[member >= 0]] for member in recurs.member
        ]
        latents[name] = of_runs[recurs.medoid, recurs.medoid_latent]
        spread[name] = np.array([of.std(0) for of in of_member]).reshape(
            latents[name].shape
        )
    return recurs._replace(latents=latents, spread=spread)


def _places(results: Results) -> Iterator[tuple[Level, str]]:
    return itertools.product(results.plan.levels, results.plan.settings)
