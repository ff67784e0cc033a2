"""The directory that a sweep's results grow in: who holds it, and what is in it."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from lvm_jax.files import archive, atomic
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
FIGURES = "figures"

_FORMAT = 2
_LOCK = ".lock"
_WAVES = "waves"
_WAVE = "wave.json"
# In the order in which they are removed: what tells that they are ours comes last.
_OURS = (_WAVES, FIGURES, HISTORY, KEPT, RESULTS, DATA, FLAGS, PLAN)


class WorkdirError(ValueError):
    """A workdir does not fit what is asked for; one that is overwritten would."""


@contextlib.contextmanager
def opened(
    path: pathlib.Path, identity: dict[str, Any], *, overwrite: bool = False
) -> Iterator[None]:
    """Holds a new directory, or one of the same identity, for this process alone.

    Args:
      path: where.
      identity: what its numbers depend on, as JSON has it.
      overwrite: whether to remove the results that are there.

    Yields:
      None.

    Raises:
      WorkdirError: if it has another identity or another format.
      ValueError: if it is in use, or has other files.
      OSError: if it cannot be made or written.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"expected a directory as workdir, got the file {path}")
    found = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if FLAGS in found and PLAN not in found:
        raise ValueError(
            f"expected a workdir of format {_FORMAT}, got {path} of an older one"
        )
    begun = {_LOCK, atomic.partial(path / PLAN).name}
    if found - begun and PLAN not in found:
        raise ValueError(
            f"expected a new workdir, or one with {PLAN}, got {path}, which has other "
            "files"
        )
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if overwrite:
            _clear(path)
        check(path, identity)
        yield


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Holds the lock, which the system releases however this process ends."""
    with open(path / _LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f"expected a workdir that no other run uses, got {path}, in use by "
                f"{file.read().strip()}"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield


def _clear(path: pathlib.Path) -> None:
    """Removes results; what is left halfway has a format that nothing goes on with."""
    if (path / PLAN).exists():
        write_json(path / PLAN, {"format": 0})
    for name in _OURS:
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)


def check(path: pathlib.Path, identity: dict[str, Any]) -> None:
    """Checks that a workdir, if it is there, has this identity; changes nothing.

    Raises:
      WorkdirError: if it has another identity or another format.
    """
    if not (path / PLAN).exists():
        return
    found = read_json(path / PLAN)
    if found.get("format") != _FORMAT:
        raise WorkdirError(
            f"expected a workdir of format {_FORMAT}, got {path} of format "
            f"{found.get('format', 0)}"
        )
    differing = differences(identity, found["identity"])
    if differing:
        raise WorkdirError(
            f"expected the task and plan that {path} was made with, got "
            f"{', '.join(differing)}"
        )


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
    about = {
        "format": _FORMAT,
        "identity": identity,
        "plan": plan_as_json(plan),
        "data": digest(arrays),
    }
    # First, so that a kill between the two leaves a workdir that is ours.
    write_json(path / PLAN, about)
    if not has_data:
        archive.write(path / DATA, arrays)
    return task


def read_task(path: pathlib.Path, task: Task) -> Task:
    """The task with the data and the truth that a workdir began with.

    Args:
      path: the workdir.
      task: whose data are of the same shapes.

    Raises:
      WorkdirError: if they are damaged, or of other shapes.
      OSError: if they cannot be read.
    """
    expected, path = read_json(path / PLAN)["data"], path / DATA
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
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, got {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object in {path}, got {type(values)}")
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
    begun = [
        directory
        for directory in sorted((path / _WAVES).glob("*"))
        if any(entry.name.isdigit() for entry in directory.glob("checkpoints/*"))
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
    for setting, of_levels in found["settings"].items():
        for level in of_levels.keys() & asked.get(setting, {}).keys():
            differing = differences(asked[setting][level], of_levels[level])
            if differing:
                raise WorkdirError(
                    f"expected setting {setting!r} as it was trained at level {level}, "
                    f"got {', '.join(differing)}"
                )
    return as_wave(found["levels"], found["settings"], found["seeds"])


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
    directory = path / _WAVES / _name(index)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / _WAVE, plan_as_json(plan))
    return directory
