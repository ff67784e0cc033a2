"""The directory that a sweep's results grow in: what is in it, and where."""

import dataclasses
import json
import pathlib
from typing import Any

from lvm_jax.files import archive, atomic, regular
from lvm_jax.sweep.plan import Plan
from lvm_jax.training.identity import data_arrays, differences, digest, plan_as_json
from lvm_jax.training.waves import Wave, as_wave
from lvm_jax.types import Task

PLAN = "plan.json"
DATA = "data.npz"
RESULTS = "results.npz"
HISTORY = "history.csv"
KEPT = "kept.csv"
FLAGS = "flags.json"  # of a binary
TRUTH = "truth.npz"  # likewise
CONSENSUS = "consensus.csv"  # likewise
CONSENSUS_ARRAYS = "consensus.npz"  # likewise
FIGURES = "figures"

MARK = "lvm_jax "
FORMAT = f"{MARK}3"
REMOVED = ".removed.json"  # the plan of results that are being removed
WAVES = "waves"
_WAVE = "wave.json"
_ANY_WAVE = "[0-9]" * 4


class WorkdirError(ValueError):
    """A workdir does not fit what is asked for; one that is overwritten would."""


def begin(path: pathlib.Path, identity: dict[str, Any], task: Task, plan: Plan) -> Task:
    """Writes what is asked for, and what is learned from where it is not there yet.

    Args:
      path: a workdir that is held.
      identity: what its numbers depend on.
      task: what is learned from what.
      plan: what is trained.

    Returns:
      The task with the data and the truth that the workdir began with.

    Raises:
      WorkdirError: if they are damaged, or of other shapes.
      OSError: if something cannot be read or written.
    """
    has_data = (path / PLAN).exists() and (path / DATA).exists()
    if has_data:
        task = read_task(path, task)
    arrays = data_arrays(task)
    # First, so that a kill between the two leaves a workdir that is ours.
    mark(path, identity, plan=plan_as_json(plan), data=digest(arrays))
    if not has_data:
        archive.write(path / DATA, arrays)
    return task


def mark(path: pathlib.Path, identity: dict[str, Any], **about: Any) -> None:
    """Makes a workdir that is held ours.

    Args:
      path: the workdir.
      identity: what tells it from others, as JSON has it.
      **about: what else its plan says, likewise.

    Raises:
      OSError: if it cannot be written.
    """
    write_json(path / PLAN, {"format": FORMAT, "identity": identity, **about})
    (path / REMOVED).unlink(missing_ok=True)


def read_task(path: pathlib.Path, task: Task) -> Task:
    """The task with the data and the truth that a workdir began with.

    Args:
      path: the workdir.
      task: whose data are of the same shapes.

    Raises:
      WorkdirError: if they are damaged, or of other shapes.
      OSError: if they cannot be read.
    """
    expected, path = read_json(path / PLAN).get("data"), path / DATA
    like, arrays = data_arrays(task), archive.read(path)
    if digest(arrays) != expected:
        raise WorkdirError(f"expected the data of the digest in {PLAN}, got {path}")
    for name in sorted(like.keys() | arrays.keys()):
        shapes = [
            f"{found[name].dtype} {found[name].shape}" if name in found else "none"
            for found in (arrays, like)
        ]
        if shapes[0] != shapes[1]:
            raise WorkdirError(
                f"expected an array {name} of {shapes[0]}, as {path} has, got "
                f"{shapes[1]}"
            )
    return dataclasses.replace(task, **archive.unflatten(arrays, task.data))


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes values as JSON."""
    text = json.dumps(values, indent=2) + "\n"
    atomic.replace(path, lambda file: file.write(text.encode()))


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads an object of `write_json`.

    Raises:
      ValueError: if the file holds anything else.
      OSError: if it cannot be read.
    """
    with regular.open_file(path) as file:
        text = file.read()
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, got {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"expected a JSON object in {path}, got {type(values).__name__}"
        )
    return values


def read_waves(path: pathlib.Path, plan: Plan) -> list[Wave]:
    """The waves of a workdir that have a checkpoint, oldest first.

    One that has none yet is not there: it may be planned anew.

    Args:
      path: the workdir.
      plan: what is asked for now.

    Raises:
      WorkdirError: if a setting has other numbers than the plan's of that name.
      ValueError: if a wave is damaged or missing.
      OSError: if one cannot be read.
    """
    if not (path / PLAN).exists():
        return []
    begun = [
        directory
        for directory in sorted((path / WAVES).glob(_ANY_WAVE))
        if any(directory.glob("checkpoints/[0-9]*.json"))
    ]
    names = [directory.name for directory in begun]
    expected = [_name(index) for index in range(len(begun))]
    if names != expected:
        raise ValueError(
            f"expected waves {', '.join(expected)} in {path}, got {', '.join(names)}"
        )
    return [_read_wave(directory / _WAVE, plan) for directory in begun]


def _read_wave(path: pathlib.Path, plan: Plan) -> Wave:
    found, asked = read_json(path), plan_as_json(plan)["settings"]
    try:
        wave = as_wave(found["levels"], found["settings"], found["seeds"])
        common = {
            (setting, level)
            for setting, of_levels in found["settings"].items()
            for level in of_levels.keys() & asked.get(setting, {}).keys()
        }
    except (AttributeError, LookupError, TypeError) as error:
        raise WorkdirError(
            f"expected the plan of a wave in {path}, got none"
        ) from error
    for setting, level in sorted(common):
        numbers = found["settings"][setting][level]
        differing = differences(asked[setting][level], numbers)
        if differing:
            raise WorkdirError(
                f"expected setting {setting!r} as it was trained at level {level}, "
                f"got {', '.join(differing)}"
            )
    return wave


def _name(index: int) -> str:
    return f"{index:04d}"


def add_wave(path: pathlib.Path, index: int, plan: Plan) -> pathlib.Path:
    """Makes the directory of a wave, if it is not there, and says what it holds.

    Args:
      path: the workdir.
      index: the wave's place among all, from 0.
      plan: of the wave alone.

    Returns:
      The directory.

    Raises:
      OSError: if it cannot be written.
    """
    directory = path / WAVES / _name(index)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / _WAVE, plan_as_json(plan))
    return directory
