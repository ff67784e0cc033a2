"""What a directory of results is identified by: what was asked for, as JSON has it."""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jaxlib
import numpy as np

from lvm_jax.files import archive, regular
from lvm_jax.sweep.plan import Plan, as_levels
from lvm_jax.types import Task, level_name

# What these flags of XLA say does not reach a number.
_HARMLESS = "--xla_dump", "--xla_force_host_platform_device_count"


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays, with their names, types and shapes."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()


def data_arrays(task: Task) -> dict[str, np.ndarray]:
    """The arrays of a task by path: its samples, in their parts, and the truth."""
    leaves = archive.flatten(task.data)
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


def identity(task: Task, plan: Plan, block: int | None) -> dict[str, Any]:
    """What numbers depend on, besides levels, seeds, settings and epochs.

    Args:
      task: what is learned from what.
      plan: what is trained.
      block: runs that a device computes at once, as the sweep has it.

    Returns:
      A tree that JSON can hold. Data are there by their recipe, or else by digest.
    """
    recipe = task.recipe
    if recipe is None:
        recipe = {"sha256": digest(data_arrays(task))}
    seen = {"trace": task.trace, "recover": task.recover if task.has_recovery else None}
    return _as_json(
        {
            **{name: _describe(of) for name, of in seen.items() if of is not None},
            "name": task.name,
            "data": recipe,
            "learner": _describe(task.learner),
            "about": task.about,
            "batch_size": plan.batch_size,
            "block": block,
            "compiler": _compiler(),
            "precision": plan.precision,
            "records_per_epoch": plan.records_per_epoch,
            "snapshot_every": plan.snapshot_every,
        }
    )


def _compiler() -> dict[str, Any]:
    """What the environment tells XLA, and changes how numbers are rounded."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    names = "jax_disable_most_optimizations", "jax_optimization_level"
    return {
        "XLA_FLAGS": sorted(flag for flag in flags if not flag.startswith(_HARMLESS)),
        **{name: jax.config.values.get(name) for name in names},
    }


def versions() -> dict[str, str]:
    """What else a job's processes must share: libraries, and this package's modules."""
    modules = sorted(pathlib.Path(__file__).parents[1].rglob("*.py"))
    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
        "lvm_jax": regular.digest(modules),
    }


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON has it, with the numbers of every setting at every level."""
    fields = {name: getattr(plan, name) for name in plan.__dataclass_fields__}
    settings = {
        name: {
            level_name(level): numbers._asdict() for level, numbers in levels.items()
        }
        for name, levels in plan.expanded().settings.items()
    }
    return _as_json({**fields, "settings": settings})


def plan_from_json(values: dict[str, Any], hyperparams: Callable[..., Any]) -> Plan:
    """The plan that `plan_as_json` made values of.

    Args:
      values: as JSON has them.
      hyperparams: the record of hyperparameters, from its fields.

    Raises:
      AttributeError, LookupError, TypeError, ValueError: if they are not of a plan.
    """
    levels = as_levels(values["levels"])
    settings = {
        name: {
            level: hyperparams(**numbers)
            for level, numbers in zip(levels, of_levels.values(), strict=True)
        }
        for name, of_levels in values["settings"].items()
    }
    return Plan(**{**values, "levels": levels, "settings": settings})


def differences(asked: Any, found: Any, path: str = "") -> list[str]:
    """Where two trees of JSON differ, such as data.gamma=5.0 (there 10.0)."""
    if isinstance(asked, dict) and isinstance(found, dict):
        prefix = f"{path}." if path else ""
        return [
            text
            for name in sorted(asked.keys() | found.keys())
            for text in differences(asked.get(name), found.get(name), f"{prefix}{name}")
        ]
    return [] if asked == found else [f"{path}={asked} (there {found})"]


def _describe(function: Any) -> dict[str, Any]:
    """A function by its name and what is applied to it."""
    values = {}
    while isinstance(function, functools.partial):
        positions = {str(place): value for place, value in enumerate(function.args)}
        values = {**positions, **function.keywords, **values}
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return {"function": f"{function.__module__}.{name}", **values}


def _as_json(tree: Any) -> Any:
    """The tree as it comes back from a file.

    Arrays are there by digest; what else JSON lacks is named by its type.
    """
    text = json.dumps(tree, default=_plain)
    return json.loads(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | jax.Array):
        return {"sha256": digest({"": np.asarray(value)})}
    if callable(value):
        return _describe(value)
    return type(value).__qualname__
