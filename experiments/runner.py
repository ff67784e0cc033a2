"""What every sweep binary shares: its flags, training, checkpoints and results."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from experiments import training
from experiments.interruption import Interruption
from experiments.training import Part
from lvm_jax import archive, checkpoint, devices, results, waves, workdir
from lvm_jax.plan import CPU_BLOCK, SweepConfig
from lvm_jax.results import Row
from lvm_jax.sweep import Kept, Sweep
from lvm_jax.types import Dataset, Level, Recovery
from lvm_jax.waves import Wave

_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the first run; the others count on from it.", lower_bound=0
)
_NUM_SEEDS = flags.DEFINE_integer(
    "num_seeds", 16, "Runs of each level, each with a seed of its own.", lower_bound=1
)
_EPOCHS = flags.DEFINE_integer(
    "epochs", 100, "Passes over the training samples.", lower_bound=1
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 20, "Samples of one step, 20 in the paper.", lower_bound=2
)
_HELD_OUT = flags.DEFINE_integer(
    "held_out",
    1000,
    "Samples, from the first, that are held out of training; 1000 in the paper.",
    lower_bound=1,
)
_EPOCHS_PER_CALL = flags.DEFINE_integer(
    "epochs_per_call",
    5,
    "Epochs of one compiled call: how often progress is shown. Results do not "
    "depend on it.",
    lower_bound=1,
)
_CHECKPOINT_EVERY = flags.DEFINE_integer(
    "checkpoint_every",
    50,
    "Epochs between two checkpoints, rounded up to whole compiled calls.",
    lower_bound=1,
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Directory for results and figures. One that is there is gone on with: an "
    "interrupted sweep is resumed, and more seeds, levels or epochs are added.",
    required=True,
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Remove the results in --workdir and start anew."
)
_MEMORY_LIMIT = flags.DEFINE_float(
    "memory_limit",
    None,
    "MiB that a sweep may use on each device: a larger one is trained in waves. By "
    "default what an accelerator has, and no limit on a CPU.",
    lower_bound=0.0,
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print the plan (runs, groups, waves, bytes, padding) and stop."
)
_DEVICES = flags.DEFINE_integer(
    "devices",
    0,
    "Devices of this process to spread the runs over: 0 for every accelerator, or for "
    "as many host devices as there are cores.",
    lower_bound=0,
)
_BLOCK = flags.DEFINE_integer(
    "block",
    CPU_BLOCK,
    "Runs that a device computes at once, 1 for grammars. A run's numbers are the same "
    "bit for bit whatever else is trained; another size changes them by rounding. An "
    "accelerator takes all its runs at once unless this is given.",
    lower_bound=1,
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of the first process, to run as one of several; "
    "$JAX_COORDINATOR_ADDRESS if not given.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Processes of the job; $JAX_NUM_PROCESSES if not given."
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "This process, from 0; $JAX_PROCESS_ID if not given."
)

# Flags on which no run's numbers depend, but for rounding on one device or several.
_FREE = {
    *("levels", "seed", "num_seeds", "epochs", "epochs_per_call", "checkpoint_every"),
    *("workdir", "overwrite", "memory_limit", "dry_run", "devices"),
    *("coordinator", "num_processes", "process_id"),
}


class Trained(NamedTuple):
    """A sweep that has been trained.

    Attributes:
      workdir: where its results go.
      kept: the models of each level, by seed.
      history: a row for each run and epoch, by level, seed and epoch.
    """

    workdir: pathlib.Path
    kept: dict[Level, Kept]
    history: Iterator[Row]


class Job(NamedTuple):
    """What the flags ask this process to do.

    Attributes:
      config: the sweep, without regard to what is there of it.
      devices: to spread the runs over, other processes' included.
      interruption: whether a signal has come.
    """

    config: SweepConfig
    devices: list[jax.Device]
    interruption: Interruption


def start(levels: Sequence[str], precision: str = "float32") -> Job:
    """Joins the job that the flags or the environment name, and chooses devices.

    Raises:
      ValueError: if a level comes twice, or there are fewer devices.
    """
    config = SweepConfig(
        levels=tuple(int(level) for level in levels),
        seeds=tuple(range(_SEED.value, _SEED.value + _NUM_SEEDS.value)),
        batch_size=_BATCH_SIZE.value,
        epochs_per_call=_EPOCHS_PER_CALL.value,
        block=_BLOCK.value,
    )
    # Before the threads of XLA, which then do not see the signals either.
    interruption = Interruption()
    devices.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    used = devices.configure(_DEVICES.value, precision=precision)
    if used[0].platform != "cpu" and not flags.FLAGS["block"].present:
        config = dataclasses.replace(config, block=None)
    return Job(config, used, interruption)


def split(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Held-out samples, the first ones, and training samples.

    Raises:
      ValueError: if nothing would be left to train on.
    """
    if _HELD_OUT.value >= len(samples):
        raise ValueError(
            f"expected fewer held-out samples than the {len(samples)} there are, "
            f"got --held_out={_HELD_OUT.value}"
        )
    return samples[: _HELD_OUT.value], samples[_HELD_OUT.value :]


@contextlib.contextmanager
def trained(
    job: Job,
    make_sweep: Callable[[SweepConfig], Sweep],
    dataset: Dataset,
    metric: str,
) -> Iterator[Trained]:
    """Trains for `--epochs` what `--workdir` does not hold yet, and then holds it.

    Only the first of several processes gets a result; the others end here.

    Args:
      job: from `start`.
      make_sweep: the sweep of a part of the job's runs.
      dataset: what it learns from.
      metric: the held-out metric to show.

    Yields:
      Trained.

    Raises:
      ValueError: if the workdir or a flag does not fit.
      OSError: if the workdir cannot be written.
      SystemExit: after a signal, with its status, and after a dry run.
    """

    last = {}

    def sweep_of(wave):
        """The sweep of a wave; asked for again in a row, the same one, compiled once.

        Only the last one is held, and let go of before the next one is made, so that
        the devices hold the data of one.
        """
        if job.interruption.status:
            sys.exit(job.interruption.status)
        if wave not in last:
            last.clear()
            last[wave] = make_sweep(
                dataclasses.replace(job.config, levels=wave.levels, seeds=wave.seeds)
            )
        return last[wave]

    everything = Wave(job.config.levels, job.config.seeds)
    sweep_of(everything)  # Refuses what makes no sense before anything is written.
    path = pathlib.Path(_WORKDIR.value)
    is_first = devices.is_first_process()
    with contextlib.ExitStack() as stack:
        if is_first and not _DRY_RUN.value:
            stack.enter_context(opened(job, dataset))
        elif is_first and not _OVERWRITE.value:
            workdir.check(path, _flags(job.config, dataset), _FREE)
        waves_ = _waves(path, everything, sweep_of)
        parts = []
        for index, wave in enumerate(waves_):
            name = f"wave {index + 1} of {len(waves_)}"
            if _DRY_RUN.value:
                print(training.describe(name, sweep_of(wave)))
                continue
            directory = workdir.add_wave(path, index, wave) if is_first else None
            parts.append(
                training.train(
                    sweep_of(wave),
                    directory,
                    _EPOCHS.value,
                    checkpoint_every=_CHECKPOINT_EVERY.value,
                    metric=metric,
                    name=name,
                    interruption=job.interruption,
                )
            )
        last.clear()
        if _DRY_RUN.value or not is_first:
            sys.exit(0)
        yield Trained(path, _kept(job.config, parts), _history(job, dataset, parts))


def opened(
    job: Job, dataset: Dataset
) -> contextlib.AbstractContextManager[pathlib.Path]:
    """Holds `--workdir` for this process, if it is new or fits the flags and data.

    Raises:
      ValueError: if it does not fit.
      OSError: if it cannot be written.
    """
    return workdir.opened(
        pathlib.Path(_WORKDIR.value),
        _flags(job.config, dataset),
        free=_FREE,
        overwrite=_OVERWRITE.value,
    )


def _flags(config: SweepConfig, dataset: Dataset) -> dict[str, Any]:
    """All flags of the binary, the size of blocks, and a digest of the data."""
    values = {
        flag.name: flag.value
        for module, own in flags.FLAGS.flags_by_module_dict().items()
        for flag in own
        if module == sys.argv[0] or module.startswith("experiments.")
    }
    data = jax.tree.map(np.asarray, (dataset.samples, dataset.truth))
    digest = checkpoint.digest(archive.flatten(data))[:16]
    return values | {"block": config.block, "data": digest}


def _waves(
    path: pathlib.Path, everything: Wave, sweep_of: Callable[[Wave], Sweep]
) -> list[Wave]:
    """The waves that are there, and then what is lacking in waves that fit."""
    # A dry run removes nothing that is to be overwritten, but plans without it.
    is_new = _OVERWRITE.value or not devices.is_first_process()
    there = [] if is_new else workdir.waves(path)
    there = workdir.as_waves(devices.on_every_process(there))
    lacking = waves.missing(there, everything.levels, everything.seeds)
    limit = devices.on_every_process(_memory_limit())
    if limit is not None:
        lacking = [
            part for wave in lacking for part in waves.split(wave, sweep_of, limit)
        ]
    return there + lacking


def _memory_limit() -> float | None:
    """Bytes that a sweep may use on a device."""
    if _MEMORY_LIMIT.value is not None:
        return _MEMORY_LIMIT.value * 2**20
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def _kept(config: SweepConfig, parts: Sequence[Part]) -> dict[Level, Kept]:
    """The kept models of all waves, by level and seed."""
    models = {level: [] for level in config.levels}
    seeds = {level: [] for level in config.levels}
    for part in parts:
        for level, own in part.kept.items():
            models[level].append(own)
            seeds[level] += part.seeds
    return {
        level: jax.tree.map(
            lambda *leaves, level=level: np.concatenate(leaves)[
                np.argsort(seeds[level])
            ],
            *models[level],
        )
        for level in config.levels
    }


def _history(job: Job, dataset: Dataset, parts: Sequence[Part]) -> Iterator[Row]:
    histories = [(part.groups, part.records) for part in parts]
    return results.history_rows(dataset.name, job.config, histories)


def kept_rows(
    job: Job,
    dataset: str,
    metric: str,
    kept: dict[Level, Kept],
    recover: Callable[[Any, Any], Recovery],
    *,
    sign: int = 1,
) -> list[Row]:
    """A row for each run: the model that it kept, and what that recovers.

    A diverged run has recovered nothing.

    Args:
      job: from `start`.
      dataset: its name.
      metric: the held-out metric that the objective is.
      kept: the models of each level.
      recover: as the sweep has it.
      sign: -1 where the objective is minus the metric.

    Returns:
      Rows by level and seed.
    """

    @jax.jit
    def of_runs(params, live):
        return jax.lax.map(lambda run: recover(*run), (params, live))

    rows = []
    for level, models in kept.items():
        recovery = jax.device_get(of_runs(models.params, models.live))
        for run, seed in enumerate(job.config.seeds):
            counts = {
                name: 0 if models.diverged[run] else values[run].item()
                for name, values in recovery.scalars().items()
            }
            rows.append(
                {
                    "dataset": dataset,
                    "level": results.level_name(level),
                    "seed": seed,
                    "epoch": int(models.epoch[run]),
                    f"held_out_{metric}": sign * float(models.objective[run]),
                    **counts,
                    "diverged": bool(models.diverged[run]),
                }
            )
    return rows
