"""Measures of the models that runs keep, and their agreement with one another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax import recovery
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
    if task.recover is None:
        raise ValueError(f"expected a task with `recover`, got {task.name} without")
    plan, shares = results.plan, {}
    compare = jax.jit(recovery.agreement, static_argnums=(0, 1))
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
            shares[level] = np.stack(jax.device_get(of_settings))
    return shares
