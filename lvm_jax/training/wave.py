"""Training one wave: from its last checkpoint, with progress, until done or told."""

import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from lvm_jax.sweep import devices as jobs
from lvm_jax.sweep.engine import Chunk, Sweep
from lvm_jax.training.checkpoint import Checkpoints, Restored, concatenate
from lvm_jax.training.progress import Moment, Progress
from lvm_jax.training.results import Part
from lvm_jax.training.workdir import WorkdirError


class Stopped(Exception):
    """Training was told to stop; all that is trained is saved, if it has a workdir.

    Attributes:
      epoch: that the running wave has reached.
    """

    def __init__(self, epoch: int):
        super().__init__(f"stopped after epoch {epoch}")
        self.epoch = epoch


class Loop(NamedTuple):
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


def describe(sweep: Sweep, name: str) -> str:
    """A line on what a wave trains and needs; compiles it.

    Args:
      sweep: the wave's.
      name: the wave's.
    """
    memory = sweep.memory()
    return (
        f"{name}: {_count(sweep.num_runs, 'run')} in "
        f"{_count(len(sweep.groups), 'group')} on "
        f"{_count(sweep.num_devices, 'device')}, {memory.total / 2**20:.1f} MiB a "
        f"device ({memory.data / 2**20:.1f} of data, {memory.per_run / 2**20:.2f} a "
        f"run), {100 * sweep.padding():.0f}% padding and spare runs"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def train_wave(
    sweep: Sweep, name: str, directory: pathlib.Path | None, loop: Loop
) -> Part:
    """Trains a wave from its last checkpoint on, and leaves one at the end.

    Args:
      sweep: the wave's.
      name: the wave's.
      directory: of its checkpoints; None where there are none, or another process
        writes them.
      loop: how it is trained.

    Returns:
      Part.

    Raises:
      WorkdirError: if no checkpoint is whole, or the last is of other runs.
      ValueError: if more epochs are there than are asked for.
      OSError: if a checkpoint cannot be written.
      Stopped: when told to, once the state is saved.
    """
    checkpoints = Checkpoints(directory) if directory else None
    try:
        restored = _restore(sweep, checkpoints)
        if restored and restored.epoch > loop.num_epochs:
            raise ValueError(
                f"expected at least the {restored.epoch} epochs that are there, got "
                f"{loop.num_epochs}"
            )
        if restored is None or restored.epoch < loop.num_epochs:
            restored = _advance(sweep, restored, checkpoints, name, loop)
        return Part(sweep.groups, restored.runs, restored.records)
    finally:
        if checkpoints:
            checkpoints.close()


def _restore(sweep: Sweep, checkpoints: Checkpoints | None) -> Restored | None:
    """The last whole checkpoint, which the first process sends to all others."""
    restored = checkpoints.restore(sweep.run_shapes()) if checkpoints else None
    if restored and not sweep.has(restored.runs):
        raise WorkdirError(
            "expected a checkpoint of the wave's levels, settings and seeds, got that "
            "of others"
        )
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
    name: str,
    loop: Loop,
) -> Restored:
    """Trains to the last epoch, showing and saving it, or raises when told to stop."""
    description = describe(sweep, name)
    jobs.meet()  # Compiling may take one process longer than gathering would wait.
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
