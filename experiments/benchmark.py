"""What the benchmarks of sweeps share: their flags, timing and tables.

A benchmark measures in processes of its own, one for each number of cores, so that
no thread of the one-core measurement runs on another core.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from lvm_jax.sweep import Plan, Sweep, devices
from lvm_jax.types import Hyperparams, Level

_NUM_RUNS = flags.DEFINE_integer("num_runs", 32, "Runs of each level.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 20, "Samples of one step.", lower_bound=1, upper_bound=9000
)
_BLOCK = flags.DEFINE_integer(
    "block", None, "Runs at once on a core; four if not given.", lower_bound=1
)
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of each timed call.", lower_bound=1)
_CORES = flags.DEFINE_integer(
    "cores",
    None,
    "Measure in this process on so many cores; by default, on one "
    "and on all, in a process each.",
    lower_bound=1,
)
_AGAINST = flags.DEFINE_string(
    "against",
    None,
    "Another checkout of this project: measure both on one core, in turn.",
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Processes of each checkout with --against.", lower_bound=2
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")

_SIDE = 1024
_REPEATS = 5


# Samples to train on, as in the study: 10 000 less the 1000 held out.
NUM_TRAIN = 9000


def plan(levels: tuple[Level, ...], hyperparams: Hyperparams) -> Plan:
    """The plan of levels at one setting that the flags ask for."""
    return Plan(
        levels=levels,
        seeds=range(_NUM_RUNS.value),
        settings={"study": hyperparams},
        batch_size=BATCH_SIZE.value,
        epochs_per_call=_EPOCHS.value,
        block=_BLOCK.value,
    )


def use_cores(num_cores: int) -> None:
    """Keeps this process on its first cores, before JAX starts its threads.

    Raises:
      ValueError: if there are fewer cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= num_cores <= len(cores):
        raise ValueError(f"expected 1 to {len(cores)} cores, got {num_cores}")
    os.sched_setaffinity(0, cores[:num_cores])


def median_seconds(
    function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median time of a call that returns arrays, after one that compiles it."""
    jax.block_until_ready(function())
    seconds = []
    for _ in range(_REPEATS):
        start = clock()
        jax.block_until_ready(function())
        seconds.append(clock() - start)
    return statistics.median(seconds)


def product_flops(clock: Callable[[], float] = time.perf_counter) -> float:
    """FLOP per second of a float32 product of two 1024 x 1024 matrices."""
    matrix = jnp.ones((_SIDE, _SIDE))
    product = jax.jit(jnp.matmul)
    return 2 * _SIDE**3 / median_seconds(lambda: product(matrix, matrix), clock)


def seconds_per_epoch(sweep: Sweep, num_epochs: int) -> float:
    """Median time of an epoch of all the runs of a sweep, compiled beforehand.

    Args:
      sweep: one whose compiled calls are `num_epochs` long.
      num_epochs: epochs of each of the timed calls.
    """
    runs = sweep.init()
    seconds = []
    for _ in range(_REPEATS + 1):
        start = time.perf_counter()
        (chunk,) = sweep.train(runs, 0, num_epochs)
        jax.block_until_ready(chunk.runs)
        seconds.append(time.perf_counter() - start)
        runs = chunk.runs
    return statistics.median(seconds[1:]) / num_epochs


def _measure_in_process(
    num_cores: int, checkout: pathlib.Path | None = None
) -> dict[str, Any]:
    """Runs this benchmark's own command on so many cores and returns its JSON.

    Args:
      num_cores: how many.
      checkout: whose command it is, if not of this one.

    Raises:
      ValueError: if a checkout has no such benchmark.
    """
    command = [sys.executable, *_own_command(), f"--cores={num_cores}", "--json"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=checkout, check=False
    )
    if done.returncode:
        raise ValueError(
            f"expected a benchmark that ends well, got status {done.returncode} of "
            f"{' '.join(command[1:])} in {checkout or 'this checkout'}"
        )
    return json.loads(done.stdout)


def _own_command() -> list[str]:
    """Without the flags that another checkout may lack."""
    module = sys.modules["__main__"].__spec__
    given = (flags.FLAGS[name] for name in flags.FLAGS if flags.FLAGS[name].present)
    own = (_AGAINST.name, _ROUNDS.name)
    return ["-m", module.name, *(of.serialize() for of in given if of.name not in own)]


def _compare(other: pathlib.Path) -> None:
    """Times both checkouts in turn, a process each, and prints ratios by level.

    Raises:
      ValueError: if there is no such checkout.
    """
    if not (other / "lvm_jax").is_dir():
        raise ValueError(f"expected a checkout of this project, got {other}")
    here = pathlib.Path(__file__).parents[1]
    rounds = [
        [_measure_in_process(1, checkout)["levels"] for checkout in (other, here)]
        for _ in range(_ROUNDS.value)
    ]
    print(
        f"one core, {_ROUNDS.value} processes of each in turn; {other} over this one:"
    )
    print("level  ms/run-epoch there: least  median  here: least  median  ratios")
    for level in rounds[0][0]:
        there, own = (
            [measured[of][level]["ms_per_run_epoch"] for measured in rounds]
            for of in (0, 1)
        )
        least, median = (
            [function(of) for of in (there, own)]
            for function in (min, statistics.median)
        )
        print(
            f"{level:>5}  {least[0]:25.2f}  {median[0]:6.2f}  {least[1]:11.2f}  "
            f"{median[1]:6.2f}  {least[0] / least[1]:.3f} {median[0] / median[1]:.3f}"
        )


def _measure(
    levels: Sequence[int],
    make_sweep: Callable[..., Sweep],
    flop_per_epoch: Callable[[int], float],
    num_cores: int,
) -> dict[str, Any]:
    """Measures every level on so many cores, in this process."""
    use_cores(num_cores)
    used = devices.configure(num_cores)
    seconds, product_speeds = {}, []
    for level in levels:
        product_speeds.append(product_flops())
        sweep = make_sweep((level,), used)
        seconds[level] = seconds_per_epoch(sweep, _EPOCHS.value)
    speed = statistics.median(product_speeds) / num_cores
    measured = {"cores": num_cores, "product_gflops_per_core": speed / 1e9}
    measured["levels"] = {}
    for level in levels:
        per_run = seconds[level] * num_cores / _NUM_RUNS.value
        flop = flop_per_epoch(level)
        measured["levels"][str(level)] = {
            "ms_per_run_epoch": 1e3 * per_run,
            "run_epochs_per_second_per_core": 1 / per_run,
            "gflop_per_run_epoch": flop / 1e9,
            "share_of_product_speed": flop / per_run / speed,
        }
    if len(levels) > 1:
        mixed = seconds_per_epoch(make_sweep(tuple(levels), used), _EPOCHS.value)
        measured["mixed_over_alone"] = mixed / sum(seconds.values())
    return measured


def _measure_all() -> dict[str, Any]:
    num_cores = len(os.sched_getaffinity(0))
    one = _measure_in_process(1)
    everything = one if num_cores == 1 else _measure_in_process(num_cores)
    gain = {
        level: num_cores
        * everything["levels"][level]["run_epochs_per_second_per_core"]
        / one["levels"][level]["run_epochs_per_second_per_core"]
        for level in one["levels"]
    }
    return {"runs": _NUM_RUNS.value, "one": one, "all": everything, "gain": gain}


def _print(measured: dict[str, Any]) -> None:
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


def report(
    levels: Sequence[int],
    make_sweep: Callable[..., Sweep],
    flop_per_epoch: Callable[[int], float],
) -> None:
    """Measures sweeps of each level, and of all together, as the flags say; prints.

    Args:
      levels: numbers of latents.
      make_sweep: (levels, devices) -> Sweep of a `plan`.
      flop_per_epoch: the floating-point operations that an epoch of a run needs in
        its matrix products, by level.
    """
    if _AGAINST.value:
        _compare(pathlib.Path(_AGAINST.value))
        return
    if _CORES.value:
        measured = _measure(levels, make_sweep, flop_per_epoch, _CORES.value)
    else:
        measured = _measure_all()
    if _JSON.value:
        print(json.dumps(measured))
    elif _CORES.value:
        _print(measured)
    else:
        _print(measured["one"])
        _print(measured["all"])
        gains = ", ".join(f"{level}: {g:.2f}" for level, g in measured["gain"].items())
        print(f"throughput of {measured['all']['cores']} cores over one: {gains}")
