"""What every sweep binary shares: its flags, progress and results."""

import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from absl import flags

from experiments import cli
from lvm_jax import results
from lvm_jax.results import Row
from lvm_jax.sweep import Group, Kept, Record, Sweep, SweepConfig
from lvm_jax.types import Level, Recovery

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
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "New directory for results and figures.", required=True
)
DEVICES = flags.DEFINE_integer(
    "devices",
    0,
    "Devices to spread the runs over: 0 for every accelerator, or for as many host "
    "devices as there are cores.",
    lower_bound=0,
)


def config(levels: Sequence[str]) -> SweepConfig:
    """The sweep that the flags ask for.

    Raises:
      ValueError: if a level comes twice.
    """
    return SweepConfig(
        levels=tuple(int(level) for level in levels),
        seeds=tuple(range(_SEED.value, _SEED.value + _NUM_SEEDS.value)),
        batch_size=_BATCH_SIZE.value,
        epochs_per_call=_EPOCHS_PER_CALL.value,
    )


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


def create_workdir() -> pathlib.Path:
    """Makes `--workdir` and writes the flags into it.

    Raises:
      ValueError: if it has files already.
      OSError: if it cannot be made.
    """
    workdir = results.create_workdir(pathlib.Path(_WORKDIR.value))
    values = {
        flag.name: flag.value
        for module in (sys.argv[0], cli.__name__, __name__)
        for flag in flags.FLAGS.get_key_flags_for_module(module)
    }
    results.write_json(workdir / results.FLAGS, values)
    return workdir


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


def train(
    sweep: Sweep, dataset: str, metric: str
) -> tuple[dict[Level, Kept], list[Row]]:
    """Trains a sweep for `--epochs`, with a progress bar.

    Args:
      sweep: the sweep.
      dataset: its name, for the rows.
      metric: the held-out metric to show.

    Returns:
      The kept models of each level, and a row for each run and epoch.
    """
    num_runs = sum(len(group.seeds) for group in sweep.groups)
    print(f"{num_runs} runs; by level: held-out {metric} / truths recovered")
    rows = []
    with tqdm.tqdm(total=_EPOCHS.value, unit="epoch", dynamic_ncols=True) as bar:
        started = time.monotonic()
        for chunk in sweep.train(sweep.init(), 0, _EPOCHS.value):
            num_epochs = chunk.epoch - bar.n
            rows += results.history_rows(dataset, sweep.groups, chunk.records, bar.n)
            seconds, started = time.monotonic() - started, time.monotonic()
            rate = num_runs * num_epochs / seconds
            last = _describe(sweep.groups, chunk.records, metric)
            bar.set_postfix_str(f"{rate:.0f} runs x epochs/s, {last}", refresh=False)
            bar.update(num_epochs)
    names = [results.level_name(level) for level in sweep.config.levels]
    rows.sort(key=lambda row: (names.index(row["level"]), row["seed"], row["epoch"]))
    return sweep.kept(chunk.runs, chunk.epoch), rows


def kept_rows(
    sweep: Sweep,
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
      sweep: the sweep.
      dataset: its name.
      metric: the held-out metric that the objective is.
      kept: the models of each level.
      recover: as the sweep has it.
      sign: -1 where the objective is minus the metric.

    Returns:
      Rows by level and seed.
    """
    rows = []
    for level, models in kept.items():
        recovery = jax.device_get(
            jax.jit(jax.vmap(recover))(models.params, models.live)
        )
        for run, seed in enumerate(sweep.config.seeds):
            counts = {
                name: 0 if models.diverged[run] else values[run].item()
                for name, values in recovery._asdict().items()
                if values.ndim == 1
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
