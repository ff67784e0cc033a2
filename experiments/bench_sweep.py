r"""Speed of noisy-OR sweeps, and how much of a core's arithmetic they use.

    python -m experiments.bench_sweep

Prints for each level, on one core and on all: milliseconds and run-epochs per second
and core, the matrix-product FLOP that an epoch needs, and the share of the speed of
a large float32 matrix product that this comes to. Then the gain from all cores over
one, and what a mixed sweep costs over its levels swept alone. About four minutes.
"""

import json
import os

import jax
import numpy as np
from absl import flags

from experiments import benchmark, cli
from lvm_jax import devices
from lvm_jax.data import noisy_or as data
from lvm_jax.learners.nvil import HIDDEN, NvilConfig, nvil, pack
from lvm_jax.models import noisy_or
from lvm_jax.sweep import Sweep, SweepConfig

_LEVELS = cli.define_levels([8, 16, 32, 64, 128])
_NUM_RUNS = flags.DEFINE_integer("num_runs", 32, "Runs of each level.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 20, "Samples of one step.", lower_bound=2, upper_bound=9000
)
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of each timed call.", lower_bound=1)
_CRITIC = flags.DEFINE_bool("critic", True, "Whether the learner has its critic.")
_CORES = flags.DEFINE_integer(
    "cores",
    None,
    "Measure in this process on so many cores; by default, on one "
    "and on all, in a process each.",
    lower_bound=1,
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")

_NUM_OBSERVED = 64
_NUM_TRAIN = 9000


def flop_per_epoch(level: int, batch_size: int, use_critic: bool) -> int:
    """Matrix-product FLOP of a run's epoch, each product counted once.

    Per sample four products of D x K: the logits of q, log P(x | h), and the
    gradients of both; and two of D x H in the critic: its hidden layer and its
    gradient.
    """
    per_sample = 2 * _NUM_OBSERVED * (4 * level + 2 * HIDDEN * use_critic)
    return per_sample * (_NUM_TRAIN // batch_size) * batch_size


def _make_sweep(levels, used) -> Sweep:
    dataset = data.make("IMG", jax.random.key(0))
    samples = np.asarray(dataset.samples)
    held_out, train = samples[:-_NUM_TRAIN], samples[-_NUM_TRAIN:]
    return Sweep(
        nvil(train.mean(0), NvilConfig(use_critic=_CRITIC.value)),
        lambda params, live: noisy_or.recover(dataset.truth, params.model, live),
        SweepConfig(
            levels=levels,
            seeds=tuple(range(_NUM_RUNS.value)),
            batch_size=_BATCH_SIZE.value,
            epochs_per_call=_EPOCHS.value,
        ),
        train=pack(train),
        held_out=pack(held_out),
        devices=used,
    )


def _measure(num_cores: int) -> dict:
    """Measures every level on so many cores, in this process."""
    benchmark.use_cores(num_cores)
    used = devices.configure(num_cores)
    seconds, product_flops, levels = {}, [], {}
    names = [int(level) for level in _LEVELS.value]
    for level in names:
        product_flops.append(benchmark.product_flops())
        sweep = _make_sweep((level,), used)
        seconds[level] = benchmark.seconds_per_epoch(sweep, _EPOCHS.value)
    speed = float(np.median(product_flops)) / num_cores
    for level in names:
        per_run = seconds[level] * num_cores / _NUM_RUNS.value
        flop = flop_per_epoch(level, _BATCH_SIZE.value, _CRITIC.value)
        levels[str(level)] = {
            "ms_per_run_epoch": 1e3 * per_run,
            "run_epochs_per_second_per_core": 1 / per_run,
            "gflop_per_run_epoch": flop / 1e9,
            "share_of_product_speed": flop / per_run / speed,
        }
    measured = {
        "cores": num_cores,
        "product_gflops_per_core": speed / 1e9,
        "levels": levels,
    }
    if len(names) > 1:
        mixed_sweep = _make_sweep(tuple(names), used)
        mixed = benchmark.seconds_per_epoch(mixed_sweep, _EPOCHS.value)
        measured["mixed_over_alone"] = mixed / sum(seconds.values())
    return measured


def _measure_all() -> dict:
    num_cores = len(os.sched_getaffinity(0))
    one = benchmark.measure_in_process(1)
    everything = one if num_cores == 1 else benchmark.measure_in_process(num_cores)
    gain = {
        level: num_cores
        * everything["levels"][level]["run_epochs_per_second_per_core"]
        / one["levels"][level]["run_epochs_per_second_per_core"]
        for level in one["levels"]
    }
    return {"runs": _NUM_RUNS.value, "one": one, "all": everything, "gain": gain}


def _print(measured: dict) -> None:
    print(
        f"{measured['cores']} core(s), float32 product at "
        f"{measured['product_gflops_per_core']:.0f} GFLOP/s per core"
    )
    print("level  ms/run-epoch  run-epochs/s/core  GFLOP/run-epoch  share of product")
    for level, row in measured["levels"].items():
        print(
            f"{level:>5}  {row['ms_per_run_epoch']:12.2f}  "
            f"{row['run_epochs_per_second_per_core']:17.1f}  "
            f"{row['gflop_per_run_epoch']:15.3f}  {row['share_of_product_speed']:16.3f}"
        )
    if "mixed_over_alone" in measured:
        ratio = measured["mixed_over_alone"]
        print(f"mixed sweep over the sum of its levels alone: {ratio:.2f}")


def main() -> None:
    """Measures and prints."""
    if _CORES.value:
        measured = _measure(_CORES.value)
        if _JSON.value:
            print(json.dumps(measured))
        else:
            _print(measured)
        return
    measured = _measure_all()
    if _JSON.value:
        print(json.dumps(measured))
        return
    _print(measured["one"])
    _print(measured["all"])
    gains = ", ".join(f"{level}: {g:.2f}" for level, g in measured["gain"].items())
    print(f"throughput of {measured['all']['cores']} cores over one, by level: {gains}")


if __name__ == "__main__":
    cli.run(main)
