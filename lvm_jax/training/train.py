"""Training a plan, wave by wave: from what a workdir holds of it to its last epoch."""

import contextlib
import dataclasses
import math
import numbers
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from lvm_jax.sweep import devices as jobs
from lvm_jax.sweep.engine import Sweep
from lvm_jax.sweep.plan import Plan
from lvm_jax.training import results, waves
from lvm_jax.training.identity import identity, plan_as_json, versions
from lvm_jax.training.job import check_alike
from lvm_jax.training.ownership import check, clear, opened, warn_of
from lvm_jax.training.progress import Progress, show
from lvm_jax.training.results import Part, Results
from lvm_jax.training.wave import Loop, Stopped, train_wave
from lvm_jax.training.wave import describe as describe_wave
from lvm_jax.training.waves import Wave
from lvm_jax.training.workdir import (
    add_wave,
    begin,
    read_waves,
)
from lvm_jax.types import Task, level_name

_MAX_EPOCHS = 2**31 - 1  # as they are counted by int32
_SHARE = 0.9  # of memory; the rest is for what the compiler does not plan


def never() -> bool:
    """Does not stop."""
    return False


def _silently(progress: Progress) -> None:
    """Shows nothing."""


class _Sweeps:
    """The sweep of a wave; asked for again in a row, the same one.

    Only the last one is held, and let go of before the next one is made, so that the
    devices hold the data of one.
    """

    def __init__(self, task: Task, plan: Plan, devices: Sequence[jax.Device] | None):
        self.task, self.plan, self.devices = task, plan, devices
        self._last = {}

    def __call__(self, wave: Wave) -> Sweep:
        if wave not in self._last:
            self._last.clear()
            part = waves.part_of(self.plan, wave)
            self._last[wave] = Sweep(self.task, part, devices=self.devices)
        return self._last[wave]

    def use(self, task: Task) -> None:
        """Takes other data of the same shapes."""
        if task is not self.task:
            self.task = task
            self._last.clear()


def train(
    task: Task,
    plan: Plan,
    num_epochs: int,
    *,
    workdir: str | os.PathLike | None = None,
    checkpoint_every: int = 50,
    memory_limit: float | None = None,
    devices: Sequence[jax.Device] | None = None,
    overwrite: bool = False,
    stop: Callable[[], bool] = never,
    progress: Callable[[Progress], None] | None = show,
) -> Results:
    """Trains every run of a plan, or what a workdir does not hold of it yet.

    The same call after any interruption goes on, bit for bit; more seeds, levels,
    settings or epochs train only what is new. A workdir goes on with the data that it
    began with. In a job of several processes all of them call this, the first one
    writes, and all get the results.

    Args:
      task: what is learned from what.
      plan: which runs.
      num_epochs: passes over the training data.
      workdir: a directory for checkpoints and results; None to train in memory.
      checkpoint_every: epochs between two checkpoints, rounded up to whole compiled
        calls.
      memory_limit: bytes that a sweep may use on a device; a larger one is trained in
        waves. None for nine tenths of what a device has, on a CPU of its share of the
        machine's.
      devices: to spread the runs over; all if None.
      overwrite: whether to remove the results in the workdir first, once all else is
        checked; what is there besides stays, and is named in a warning.
      stop: polled after each compiled call.
      progress: called before the first compiled call of a wave and after each; None
        for nothing.

    Returns:
      Results.

    Raises:
      WorkdirError: if the workdir was made for another task or plan.
      ValueError: if an argument does not fit, or that of another process differs, or
        the workdir is in use or not ours.
      OSError: if the workdir cannot be read or written.
      Stopped: when told to, once all that is trained is saved.
    """
    for name, value in (
        ("num_epochs", num_epochs),
        ("checkpoint_every", checkpoint_every),
    ):
        if not isinstance(value, numbers.Integral) or not 1 <= value <= _MAX_EPOCHS:
            raise ValueError(f"expected {name} from 1 to {_MAX_EPOCHS}, got {value!r}")
    if memory_limit is not None and math.isnan(memory_limit):
        raise ValueError("expected a memory_limit in bytes, got nan")
    path = None if workdir is None else pathlib.Path(workdir)
    check_alike(
        lambda: _call(
            task,
            plan,
            devices,
            num_epochs=num_epochs,
            checkpoint_every=checkpoint_every,
            memory_limit=memory_limit,
            has_workdir=path is not None,
            overwrite=overwrite,
        )
    )
    sweeps = _Sweeps(task, plan, devices)
    whole = sweeps(waves.whole(plan))  # Refuses what makes no sense.
    asked, num_truths = identity(task, plan, whole.block), whole.num_truths
    del whole
    directory = path if jobs.is_first_process() else None
    loop = Loop(num_epochs, checkpoint_every, stop, progress or _silently)
    with contextlib.ExitStack() as stack:
        if directory is not None:
            stack.enter_context(opened(directory, None if overwrite else asked))
        planned = _planned(None if overwrite else directory, sweeps, memory_limit)
        if overwrite and loop.stop_on_any_process():
            raise Stopped(0)
        if directory is not None:
            _begin(directory, asked, sweeps, overwrite)
        if path is not None and jax.process_count() > 1:
            sweeps.use(_broadcast(sweeps.task, plan.precision))
        parts = [
            _train(sweeps, wave, directory, index, len(planned), loop)
            for index, wave in enumerate(planned)
        ]
        trained = results.assemble(task.name, plan, num_epochs, parts, num_truths)
        if directory is not None:
            results.save(trained, directory)
    return trained


def describe(
    task: Task,
    plan: Plan,
    *,
    workdir: str | os.PathLike | None = None,
    memory_limit: float | None = None,
    devices: Sequence[jax.Device] | None = None,
    overwrite: bool = False,
) -> str:
    """What `train` would do with these arguments; compiles, and changes nothing.

    Args:
      task: as `train` has it, and so the others.
      plan: likewise.
      workdir: likewise.
      memory_limit: likewise.
      devices: likewise.
      overwrite: likewise.

    Returns:
      A line for each setting, and one for each wave.

    Raises:
      WorkdirError: if the workdir was made for another task or plan.
      ValueError: if an argument does not fit, or the workdir is not ours.
    """
    check_alike(
        lambda: _call(
            task, plan, devices, memory_limit=memory_limit, overwrite=overwrite
        )
    )
    sweeps = _Sweeps(task, plan, devices)
    asked = identity(task, plan, sweeps(waves.whole(plan)).block)
    path = None
    if workdir is not None and jobs.is_first_process():
        path = pathlib.Path(workdir)
        check(path, None if overwrite else asked)
    planned = _planned(None if overwrite else path, sweeps, memory_limit)
    lines = describe_settings(plan) + [
        describe_wave(sweeps(wave), _name(index, len(planned)))
        for index, wave in enumerate(planned)
    ]
    return "\n".join(lines)


def describe_settings(plan: Plan) -> list[str]:
    """A line for each setting: its name and its numbers, by level where they differ."""
    lines = []
    for name in plan.settings:
        levels = {}
        for level in plan.levels:
            values = plan.hyperparams(level, name)
            text = " ".join(
                f"{key}={value:g}" for key, value in values._asdict().items()
            )
            levels.setdefault(text, []).append(level_name(level))
        parts = [f"{text} at {', '.join(names)}" for text, names in levels.items()]
        lines.append(f"setting {name}: {'; '.join(parts)}")
    return lines


def _call(
    task: Task, plan: Plan, devices: Sequence[jax.Device] | None, **arguments: Any
) -> dict[str, Any]:
    """What all processes of a job have to be called with, as JSON has it."""
    return {
        **identity(task, plan, plan.block),
        "plan": plan_as_json(plan),
        "devices": [str(device) for device in devices or jax.devices()],
        **arguments,
        **versions(),
    }


def _begin(
    directory: pathlib.Path, asked: dict[str, Any], sweeps: _Sweeps, overwrite: bool
) -> None:
    """Makes a workdir ready, whose data the sweeps go on with."""
    if overwrite:
        warn_of(directory, clear(directory))
    sweeps.use(begin(directory, asked, sweeps.task, sweeps.plan))


def _broadcast(task: Task, precision: str) -> Task:
    """The task with the first process' data."""
    data = jax.tree.map(np.asarray, task.data)
    with jobs.settings(precision):
        data = multihost_utils.broadcast_one_to_all(data)
    return dataclasses.replace(task, **jax.tree.map(np.asarray, data))


def _planned(
    directory: pathlib.Path | None, sweeps: _Sweeps, memory_limit: float | None
) -> list[Wave]:
    """The waves that are there, and then what is missing in waves that fit."""
    present = [] if directory is None else read_waves(directory, sweeps.plan)
    present = [waves.as_wave(*values) for values in jobs.on_every_process(present)]
    lacking = waves.missing(present, sweeps.plan)
    if memory_limit is None:
        memory_limit = _SHARE * jobs.memory(sweeps.devices or jax.devices())
    limit = jobs.on_every_process(memory_limit)
    return present + [
        part for wave in lacking for part in waves.split(wave, sweeps, limit)
    ]


def _name(index: int, num_waves: int) -> str:
    return f"wave {index + 1} of {num_waves}"


def _train(
    sweeps: _Sweeps,
    wave: Wave,
    workdir: pathlib.Path | None,
    index: int,
    num_waves: int,
    loop: Loop,
) -> Part:
    """Trains a wave, unless told to stop before it is begun."""
    if loop.stop_on_any_process():
        raise Stopped(0)
    sweep, directory = sweeps(wave), None
    if workdir is not None:
        directory = add_wave(workdir, index, sweep.plan)
    return train_wave(sweep, _name(index, num_waves), directory, loop)
