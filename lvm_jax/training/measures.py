"""Measures of the models that runs keep."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lvm_jax.sweep import devices
from lvm_jax.training.results import Results


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
