"""Timing that the benchmarks share: cores, matrix-product speed, sweeps.

A benchmark measures in processes of its own, one for each number of cores, so that
no thread of the one-core measurement runs on another core.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lvm_jax.sweep import Sweep

_SIDE = 1024
_REPEATS = 5


def use_cores(num_cores: int) -> None:
    """Keeps this process on its first cores, before JAX starts its threads.

    Raises:
      ValueError: if there are fewer cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= num_cores <= len(cores):
        raise ValueError(f"expected 1 to {len(cores)} cores, got {num_cores}")
    os.sched_setaffinity(0, cores[:num_cores])


def median_seconds(function: Callable[[], Any]) -> float:
    """Median time of a call that returns arrays, after one that compiles it."""
    jax.block_until_ready(function())
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def product_flops() -> float:
    """FLOP per second of a float32 product of two 1024 x 1024 matrices."""
    matrix = jnp.ones((_SIDE, _SIDE))
    product = jax.jit(jnp.matmul)
    return 2 * _SIDE**3 / median_seconds(lambda: product(matrix, matrix))


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


def measure_in_process(num_cores: int) -> dict[str, Any]:
    """Runs this benchmark's own command on so many cores and returns its JSON."""
    command = [sys.executable, *_own_command(), f"--cores={num_cores}", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def _own_command() -> list[str]:
    module = sys.modules["__main__"].__spec__
    return ["-m", module.name, *sys.argv[1:]]
