"""Training one wave: from its last checkpoint, with progress, until done or told."""

import pathlib
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import tqdm
from jax.experimental import multihost_utils

from experiments.interruption import Interruption
from lvm_jax import checkpoint, results
from lvm_jax.checkpoint import Checkpoints, Restored
from lvm_jax.plan import Group
from lvm_jax.run import Record
from lvm_jax.sweep import Kept, Sweep
from lvm_jax.types import Level


class Part(NamedTuple):
    """A wave that has been trained, as host arrays: nothing of it stays on a device.

    Attributes:
      seeds: of its runs, at each level.
      groups: its plan.
      kept: the models of each level, by seed.
      records: a Record for each group, of all epochs.
    """

    seeds: tuple[int, ...]
    groups: tuple[Group, ...]
    kept: dict[Level, Kept]
    records: tuple[Record, ...]


def describe(name: str, sweep: Sweep) -> str:
    """A line on what a wave trains and needs; compiles it."""
    memory = sweep.memory()
    num_runs = sum(len(group.seeds) for group in sweep.groups)
    return (
        f"{name}: {num_runs} runs in {len(sweep.groups)} groups on "
        f"{sweep.num_devices} devices, {memory.total / 2**20:.1f} MiB a device "
        f"({memory.data / 2**20:.1f} of data, {memory.per_run / 2**20:.2f} a run), "
        f"{100 * sweep.padding():.0f}% padding"
    )


def train(
    sweep: Sweep,
    directory: pathlib.Path | None,
    num_epochs: int,
    *,
    checkpoint_every: int,
    metric: str,
    name: str,
    interruption: Interruption,
) -> Part:
    """Trains a wave from its last checkpoint on, and leaves one at the end.

    Args:
      sweep: the wave's.
      directory: of its checkpoints, None where another process writes them.
      num_epochs: the epoch to reach.
      checkpoint_every: epochs between two checkpoints.
      metric: the held-out metric to show.
      name: the wave's.
      interruption: what ends training after the running call.

    Returns:
      Part.

    Raises:
      ValueError: if more epochs are there than are asked for.
      OSError: if a checkpoint cannot be written.
      SystemExit: after a signal, once the state is saved.
    """
    checkpoints = Checkpoints(directory) if directory else None
    try:
        restored = _restore(sweep, checkpoints)
        if restored and restored.epoch > num_epochs:
            raise ValueError(
                f"expected at least the {restored.epoch} epochs that are there, got "
                f"{num_epochs}"
            )
        if restored is None or restored.epoch < num_epochs:
            print(describe(name, sweep), flush=True)
            restored = _advance(
                sweep,
                restored,
                num_epochs,
                checkpoints=checkpoints,
                checkpoint_every=checkpoint_every,
                metric=metric,
                interruption=interruption,
            )
        kept = sweep.kept(restored.runs, restored.epoch)
        return Part(sweep.config.seeds, sweep.groups, kept, restored.records)
    finally:
        if checkpoints:
            checkpoints.close()


def _restore(sweep: Sweep, checkpoints: Checkpoints | None) -> Restored | None:
    """The last whole checkpoint, which the first process sends to all others."""
    restored = checkpoints.restore(sweep.shapes()) if checkpoints else None
    if jax.process_count() == 1:
        return restored
    epoch = np.int32(restored.epoch if restored else 0)
    epoch = int(multihost_utils.broadcast_one_to_all(epoch))
    if not epoch:
        return None
    runs = (
        restored.runs
        if restored
        else jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), sweep.shapes())
    )
    runs = jax.device_get(multihost_utils.broadcast_one_to_all(runs))
    return Restored(epoch, runs, restored.records if restored else ())


def _advance(
    sweep: Sweep,
    restored: Restored | None,
    num_epochs: int,
    *,
    checkpoints: Checkpoints | None,
    checkpoint_every: int,
    metric: str,
    interruption: Interruption,
) -> Restored:
    """Trains to the last epoch, showing and saving it, or exits when told to."""
    start = restored.epoch if restored else 0
    runs = sweep.place(restored.runs) if restored else sweep.init()
    records = [restored.records] if restored else []
    saved, since = start, []
    num_runs = sum(len(group.seeds) for group in sweep.groups)
    print(f"by level: held-out {metric} / truths recovered", flush=True)
    began = called = time.monotonic()
    computing = 0.0
    with tqdm.tqdm(
        total=num_epochs, initial=start, unit="epoch", dynamic_ncols=True
    ) as bar:
        for chunk in sweep.train(runs, start, num_epochs):
            seconds = time.monotonic() - called
            computing += seconds
            since.append(chunk.records)
            status = _exit_status(interruption)
            is_last = chunk.epoch == num_epochs or status
            if is_last or chunk.epoch - saved >= checkpoint_every:
                gathered = sweep.gather(chunk.runs)
                records.append(checkpoint.concatenate(since))
                if checkpoints:
                    checkpoints.save(chunk.epoch, gathered, records[-1])
                saved, since = chunk.epoch, []
            rate = num_runs * (chunk.epoch - bar.n) / seconds
            last = _describe(sweep.groups, chunk.records, metric)
            bar.set_postfix_str(f"{rate:.4g} runs x epochs/s, {last}", False)
            bar.update(chunk.epoch - bar.n)
            if status:
                break
            called = time.monotonic()
    if checkpoints:
        checkpoints.wait()
    if status:
        sys.exit(status)
    everything = time.monotonic() - began
    print(
        f"{everything:.0f} s, of which {100 * (1 - computing / everything):.1f}% "
        "on checkpoints and progress"
    )
    return Restored(num_epochs, gathered, checkpoint.concatenate(records))


def _exit_status(interruption: Interruption) -> int:
    """The exit status that a signal to any process asks for, else 0."""
    if jax.process_count() == 1:
        return interruption.status
    return int(multihost_utils.process_allgather(np.int32(interruption.status)).max())


def _describe(groups: Sequence[Group], records: Sequence[Record], metric: str) -> str:
    """The last epoch of every level: the held-out metric and the truths recovered."""
    parts = []
    for group, record in zip(groups, records, strict=True):
        for level in dict.fromkeys(group.levels):
            runs = [index for index, other in enumerate(group.levels) if other == level]
            value = np.nanmean(record.held_out[metric][runs, -1])
            recovered = record.recovery["num_recovered"][runs, -1].mean()
            parts.append(f"{results.level_name(level)}:{value:.4g}/{recovered:.1f}")
    return " ".join(parts)
