"""Training a plan, wave by wave: from what a workdir holds of it to its last epoch."""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from lvm_jax.sweep import devices as jobs
from lvm_jax.sweep.engine import Chunk, Sweep
from lvm_jax.sweep.plan import Plan
from lvm_jax.training import results, waves
from lvm_jax.training.checkpoint import Checkpoints, Restored, concatenate
from lvm_jax.training.identity import identity
from lvm_jax.training.progress import Moment, Progress, show
from lvm_jax.training.results import Part, Results
from lvm_jax.training.waves import Wave
from lvm_jax.training.workdir import add_wave, begin, check, opened, read_waves
from lvm_jax.types import Buckets, Task, level_name


class Stopped(Exception):
    """Training was told to stop; all that is trained is saved, if it has a workdir.

    Attributes:
      epoch: that the running wave has reached.
    """

    def __init__(self, epoch: int):
        super().__init__(f"stopped after epoch {epoch}")
        self.epoch = epoch


def never() -> bool:
    """Does not stop."""
    return False


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


class _Loop(NamedTuple):
    """How waves are trained: arguments of `train`."""

    num_epochs: int
    checkpoint_every: int
    stop: Callable[[], bool]
    progress: Callable[[Progress], None]

    def stop_on_any_process(self) -> bool:
        """Whether any process of the job is told to stop."""
        if jax.process_count() == 1:
            return self.stop()
        return bool(multihost_utils.process_allgather(np.bool_(self.stop())).any())


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
    progress: Callable[[Progress], None] = show,
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
        waves. None for what an accelerator has, and for no limit on a CPU.
      devices: to spread the runs over; all if None.
      overwrite: whether to remove the results in the workdir first.
      stop: polled after each compiled call.
      progress: called before the first compiled call of a wave and after each.

    Returns:
      Results.

    Raises:
      WorkdirError: if the workdir was made for another task or plan.
      ValueError: if an argument does not fit, or the workdir is in use or not ours.
      OSError: if the workdir cannot be read or written.
      Stopped: when told to, once all that is trained is saved.
    """
    for name, value in (
        ("num_epochs", num_epochs),
        ("checkpoint_every", checkpoint_every),
    ):
        if value < 1:
            raise ValueError(f"expected {name} of at least 1, got {value}")
    sweeps = _Sweeps(task, plan, devices)
    whole = sweeps(waves.whole(plan))  # Refuses what makes no sense.
    asked, num_truths = identity(task, plan, whole.block), whole.num_truths
    del whole
    path = None if workdir is None else pathlib.Path(workdir)
    loop = _Loop(num_epochs, checkpoint_every, stop, progress)
    with _held(path, asked, sweeps, overwrite) as directory:
        planned = _planned(directory, sweeps, memory_limit)
        parts = [
            _train_wave(sweeps, wave, directory, index, len(planned), loop)
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
      ValueError: if an argument does not fit.
    """
    sweeps = _Sweeps(task, plan, devices)
    asked = identity(task, plan, sweeps(waves.whole(plan)).block)
    path = None
    if workdir is not None and not overwrite and jobs.is_first_process():
        path = pathlib.Path(workdir)
        check(path, asked)
    planned = _planned(path, sweeps, memory_limit)
    lines = describe_settings(plan) + [
        _describe_wave(sweeps(wave), index, len(planned))
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


@contextlib.contextmanager
def _held(
    path: pathlib.Path | None, asked: dict, sweeps: _Sweeps, overwrite: bool
) -> Iterator[pathlib.Path | None]:
    """Holds the workdir, and has all processes go on with the data that it began with.

    Yields:
      The workdir for the process that writes, None for others and without one.
    """
    directory = path if jobs.is_first_process() else None
    with contextlib.ExitStack() as stack:
        if directory is not None:
            stack.enter_context(opened(directory, asked, overwrite=overwrite))
            sweeps.use(begin(directory, asked, sweeps.task, sweeps.plan))
        if path is not None and jax.process_count() > 1:
            sweeps.use(_broadcast(sweeps.task, sweeps.plan.precision))
        yield directory


def _broadcast(task: Task, precision: str) -> Task:
    """The task with the first process' data."""
    is_bucketed = isinstance(task.train, Buckets)
    train = task.train.parts if is_bucketed else task.train
    data = jax.tree.map(np.asarray, (train, task.held_out, task.truth))
    with jobs.settings(precision):
        data = multihost_utils.broadcast_one_to_all(data)
    train, held_out, truth = jax.tree.map(np.asarray, data)
    train = Buckets(train) if is_bucketed else train
    return dataclasses.replace(task, train=train, held_out=held_out, truth=truth)


def _planned(
    directory: pathlib.Path | None, sweeps: _Sweeps, memory_limit: float | None
) -> list[Wave]:
    """The waves that are there, and then what is missing in waves that fit."""
    present = [] if directory is None else read_waves(directory, sweeps.plan)
    present = [_as_wave(*values) for values in jobs.on_every_process(present)]
    lacking = waves.missing(present, sweeps.plan)
    if memory_limit is None:
        memory_limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    limit = jobs.on_every_process(memory_limit)
    if limit is not None:
        lacking = [
            part for wave in lacking for part in waves.split(wave, sweeps, limit)
        ]
    return present + lacking


def _as_wave(levels, settings, seeds) -> Wave:
    """A wave that JSON may have made lists of."""
    levels = tuple(
        tuple(level) if isinstance(level, list) else level for level in levels
    )
    return Wave(levels, tuple(settings), tuple(seeds))


def _describe_wave(sweep: Sweep, index: int, num_waves: int) -> str:
    """A line on what a wave trains and needs; compiles it."""
    memory = sweep.memory()
    return (
        f"wave {index + 1} of {num_waves}: {_count(sweep.num_runs, 'run')} in "
        f"{_count(len(sweep.groups), 'group')} on "
        f"{_count(sweep.num_devices, 'device')}, {memory.total / 2**20:.1f} MiB a "
        f"device ({memory.data / 2**20:.1f} of data, {memory.per_run / 2**20:.2f} a "
        f"run), {100 * sweep.padding():.0f}% padding and spare runs"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _train_wave(
    sweeps: _Sweeps,
    wave: Wave,
    directory: pathlib.Path | None,
    index: int,
    num_waves: int,
    loop: _Loop,
) -> Part:
    """Trains a wave from its last checkpoint on, and leaves one at the end."""
    if loop.stop_on_any_process():
        raise Stopped(0)
    sweep, checkpoints = sweeps(wave), None
    if directory is not None:
        checkpoints = Checkpoints(add_wave(directory, index, sweep.plan))
    try:
        restored = _restore(sweep, checkpoints)
        if restored and restored.epoch > loop.num_epochs:
            raise ValueError(
                f"expected at least the {restored.epoch} epochs that are there, got "
                f"{loop.num_epochs}"
            )
        if restored is None or restored.epoch < loop.num_epochs:
            description = _describe_wave(sweep, index, num_waves)
            restored = _advance(sweep, restored, checkpoints, description, loop)
        return Part(sweep.groups, restored.runs, restored.records)
    finally:
        if checkpoints:
            checkpoints.close()


def _restore(sweep: Sweep, checkpoints: Checkpoints | None) -> Restored | None:
    """The last whole checkpoint, which the first process sends to all others."""
    restored = checkpoints.restore(sweep.run_shapes()) if checkpoints else None
    if jax.process_count() == 1:
        return restored
    epoch = np.int32(restored.epoch if restored else 0)
    epoch = int(multihost_utils.broadcast_one_to_all(epoch))
    if not epoch:
        return None
    sent = (
        (restored.runs, restored.records)
        if restored
        else jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype),
            (sweep.run_shapes(), sweep.record_shapes(epoch)),
        )
    )
    with jobs.settings(sweep.plan.precision):
        received = jax.device_get(multihost_utils.broadcast_one_to_all(sent))
    return Restored(epoch, *received)


class _Clock:
    """Seconds since training started, and of them those inside compiled calls."""

    def __init__(self):
        self._began = self._called = time.monotonic()
        self.computing = 0.0

    def start_call(self) -> None:
        self._called = time.monotonic()

    def end_call(self) -> None:
        self.computing += time.monotonic() - self._called

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def _advance(
    sweep: Sweep,
    restored: Restored | None,
    checkpoints: Checkpoints | None,
    description: str,
    loop: _Loop,
) -> Restored:
    """Trains to the last epoch, showing and saving it, or raises when told to stop."""
    start = restored.epoch if restored else 0
    runs = sweep.place(restored.runs) if restored else sweep.init()
    records = [restored.records] if restored else []
    saved, unsaved, clock = start, [], _Clock()

    def report(epoch, moments):
        loop.progress(
            Progress(
                description,
                sweep.metric,
                start,
                epoch,
                loop.num_epochs,
                sweep.num_runs,
                clock.seconds,
                clock.computing,
                moments,
            )
        )

    report(start, ())
    clock.start_call()
    for chunk in sweep.train(runs, start, loop.num_epochs):
        clock.end_call()
        unsaved.append(chunk.records)
        is_stopped = loop.stop_on_any_process()
        is_last = chunk.epoch == loop.num_epochs or is_stopped
        if is_last or chunk.epoch - saved >= loop.checkpoint_every:
            gathered = sweep.gather(chunk.runs)
            records.append(concatenate(unsaved))
            if checkpoints:
                checkpoints.save(chunk.epoch, gathered, records[-1])
            saved, unsaved = chunk.epoch, []
        if is_last and checkpoints:
            checkpoints.wait()
        report(chunk.epoch, _moments(sweep, chunk))
        if is_stopped and chunk.epoch < loop.num_epochs:
            raise Stopped(chunk.epoch)
        clock.start_call()
    return Restored(loop.num_epochs, gathered, concatenate(records))


def _moments(sweep: Sweep, chunk: Chunk) -> tuple[Moment, ...]:
    """The last record of every level and setting, averaged over seeds."""
    moments = []
    for group, record in zip(sweep.groups, chunk.records, strict=True):
        rows = {}
        for row, run in enumerate(group.runs):
            rows.setdefault((run.level, run.setting), []).append(row)
        for (level, setting), own in rows.items():
            counts = record.recovery.get("num_recovered")
            moments.append(
                Moment(
                    level,
                    setting,
                    _mean(record.held_out[sweep.metric][own, -1]),
                    None if counts is None else _mean(counts[own, -1]),
                )
            )
    return tuple(moments)


def _mean(values: np.ndarray) -> float:
    """The mean of what is not NaN; NaN if nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
