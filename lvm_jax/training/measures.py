"""Measures of the models that runs keep, and their agreement with one another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax import recovery
from lvm_jax.recurrence import Consensus, recurring
from lvm_jax.sweep import devices
from lvm_jax.training.results import Results
from lvm_jax.types import Level, Task


def measure(
    function: Callable[[Any, Any], dict[str, Any]], results: Results
) -> dict[str, np.ndarray]:
    """Measures the model that every run keeps.

    Args:
      function: (params, live) of a run -> scalars by name; it is compiled.
      results: of a trained plan.

    Returns:
      [level, setting, seed] by name.
    """

    @jax.jit
    def of_level(params, live):
        return jax.lax.map(lambda run: function(*run), (params, live))

    levels = []
    with devices.settings(results.plan.precision):
        for kept in results.kept.values():
            shape = kept.epoch.shape
            flat = jax.tree.map(
                lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (kept.params, kept.live)
            )
            values = jax.device_get(of_level(*flat))
            levels.append(
                {name: value.reshape(shape) for name, value in values.items()}
            )
    return {name: np.stack([of[name] for of in levels]) for name in levels[0]}


def agreement(task: Task, results: Results) -> dict[Level, np.ndarray]:
    """How much of each run's model every other run of its level and setting has.

    Models are compared by the task's own rule, as a truth and a learned model are: no
    truth is needed.

    Args:
      task: that was trained.
      results: of it.

    Returns:
      For each level [setting, seed, seed]: the share of the first run's latents, of
      those that survive the filter, that the second run has; NaN where none survives.

    Raises:
      ValueError: if the task has nothing to compare models by.
    """
    matches = _matches(task, results)
    with devices.settings(results.plan.precision):
        shares = jax.jit(jax.vmap(recovery.agreement))
        return {
            level: jax.device_get(shares(*map(np.stack, zip(*of_level, strict=True))))
            for level, of_level in matches.items()
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
    return {
        level: [
            recurring(matched, kept, objective, share)
            for (matched, kept), objective in zip(
                of_level, results.kept[level].objective, strict=True
            )
        ]
        for level, of_level in _matches(task, results).items()
    }


def _matches(task: Task, results: Results) -> dict[Level, list[Any]]:
    """`recovery.matches` of the runs of each level, by setting."""
    if task.recover is None:
        raise ValueError(f"expected a task with `recover`, got {task.name} without")
    plan, found = results.plan, {}
    compare = jax.jit(recovery.matches, static_argnums=(0, 1))
    with devices.settings(plan.precision):
        held_out = jax.tree.map(jnp.asarray, task.held_out)
        for level, kept in results.kept.items():
            of_settings = []
            for place, setting in enumerate(plan.settings):
                learner = task.learner(plan.hyperparams(level, setting))
                params, live = jax.tree.map(
                    lambda leaf, place=place: leaf[place], (kept.params, kept.live)
                )
                of_settings.append(
                    compare(learner.model, task.recover, params, live, held_out)
                )
            found[level] = jax.device_get(of_settings)
    return found
