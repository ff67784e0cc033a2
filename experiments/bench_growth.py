r"""How time and memory of a noisy-OR sweep grow, by latents, variables, samples, runs.

    python -m experiments.bench_growth

One axis after the other, the rest as it is: 16 latents, 64 variables, 1000 samples to
learn from, four runs. Each size trains in a process of its own on one core: the least
of three epochs, in the processor's time, evaluation and recovery included, and what
the compiler plans a device's memory to be. Prints a table with the slope between
neighbouring sizes (1 is linear), and draws both into experiments/figures/growth.png.
Twenty minutes.
"""

import json
import math
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
from absl import flags
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import lvm_jax
from experiments import benchmark, cli
from lvm_jax import noisy_or, report
from lvm_jax.report import style
from lvm_jax.sweep import devices
from lvm_jax.types import Dataset

_SIZES = {
    "latents": (8, 32, 128, 512, 1024),
    "variables": (64, 512, 2048, 10_000),
    "samples": (1000, 10_000, 100_000, 1_000_000),
    "runs": (1, 4, 64, 512, 4096),
}
_USUAL = {"latents": 16, "variables": 64, "samples": 1000, "runs": 4}
_NUM_HELD_OUT = 1000
_REPEATS = 3
_ONE = flags.DEFINE_string("one", None, "Measure one, JSON of its sizes, and print it.")
_OUT = flags.DEFINE_string(
    "figures",
    str(pathlib.Path(__file__).parent / "figures"),
    "Folder that the figure is drawn into.",
)


def _task(num_variables: int, num_samples: int) -> lvm_jax.Task:
    """Samples of eight latents, of which each turns an eighth of the variables on."""
    latents, variables = jnp.arange(8)[:, None], jnp.arange(num_variables)
    truth = noisy_or.NoisyOr(
        jnp.full(8, -1.1),
        jnp.where(variables * 8 // num_variables == latents, -2.0, 6.0),
        jnp.full(num_variables, 6.0),
    )
    samples, _ = noisy_or.sample(lvm_jax.key(0), truth, num_samples + _NUM_HELD_OUT)
    dataset = Dataset("blocks", samples, truth)
    return noisy_or.task(dataset, num_held_out=_NUM_HELD_OUT)


def measure(latents: int, variables: int, samples: int, runs: int) -> dict[str, float]:
    """Milliseconds of a run-epoch, and MiB of a run and of the data.

    Args:
      latents: K.
      variables: D.
      samples: N, to learn from.
      runs: side by side, in blocks of four.
    """
    plan = lvm_jax.Plan(
        levels=(latents,),
        seeds=range(runs),
        settings={"study": noisy_or.NvilHyperparams()},
        epochs_per_call=1,
    )
    own = devices.configure(1)
    sweep = lvm_jax.Sweep(_task(variables, samples), plan, devices=own)
    state, seconds = sweep.init(), []
    for epoch in range(_REPEATS + 1):
        start = time.process_time()
        (chunk,) = sweep.train(state, epoch, epoch + 1)
        state = jax.block_until_ready(chunk.runs)
        seconds.append(time.process_time() - start)
    memory = sweep.memory()
    return {
        "milliseconds": 1e3 * min(seconds[1:]) / runs,
        "run": memory.per_run / 2**20,
        "data": memory.data / 2**20,
    }


def _measured(sizes: dict[str, int]) -> dict[str, float]:
    """In a process of its own, on one core."""
    command = [sys.executable, "-m", "experiments.bench_growth"]
    done = subprocess.run(
        [*command, f"--one={json.dumps(sizes)}"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"expected a measurement of {sizes}, got none")
    return json.loads(done.stdout)


def slope(sizes: tuple[int, int], values: tuple[float, float]) -> float:
    """The exponent by which values grow from one size to the next."""
    return math.log(values[1] / values[0]) / math.log(sizes[1] / sizes[0])


def _plain(value: float, position: int) -> str:
    """A power of ten without an exponent, of many digits with a letter."""
    del position  # Unused.
    for letter, unit in (("M", 1e6), ("k", 1e3)):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


@style.styled()
def _plot(found: dict[str, dict[int, dict[str, float]]]) -> Figure:
    """Time above and memory below, a column for each axis."""
    figure = style.new_figure(7.2, 3.6)
    grid = figure.subplots(2, len(found), sharex="col", sharey="row")
    of_row = (("milliseconds", "ms a run-epoch"), ("run", "MiB a run"))
    for row, (name, label) in zip(grid, of_row, strict=True):
        for axes, (axis, of_sizes) in zip(row, found.items(), strict=True):
            values = [measured[name] for measured in of_sizes.values()]
            axes.loglog(list(of_sizes), values, "o-", ms=3)
            first = min(of_sizes)
            linear = [values[0] * size / first for size in of_sizes]
            if axis != "runs":
                axes.loglog(list(of_sizes), linear, ":", color="0.4", lw=1)
            for scale in (axes.xaxis, axes.yaxis):
                scale.set_major_formatter(_plain)
                scale.set_minor_locator(NullLocator())
        row[0].set_ylabel(label)
    for axes, axis in zip(grid[1], found, strict=True):
        axes.set_xlabel(axis)
    return figure


def main() -> None:
    """Measures and prints."""
    if _ONE.value:
        benchmark.use_cores(1)
        print(json.dumps(measure(**json.loads(_ONE.value))))
        return
    headings = ("axis", "size", "ms a run-epoch", "slope", "MiB a run", "slope", "data")
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    found = {}
    for axis, sizes in _SIZES.items():
        of_sizes = found[axis] = {}
        for size in sizes:
            of_sizes[size] = now = _measured(_USUAL | {axis: size})
            last = list(of_sizes)[-2:]
            slopes = ["", ""]
            if len(last) == 2:
                slopes = [
                    f"{slope(last, [of_sizes[of][name] for of in last]):.2f}"
                    for name in ("milliseconds", "run")
                ]
            numbers = [f"{now[name]:.4g}" for name in ("milliseconds", "run", "data")]
            cells = [axis, str(size), numbers[0], slopes[0], numbers[1], slopes[1]]
            print(f"| {' | '.join([*cells, numbers[2]])} |", flush=True)
    path = pathlib.Path(_OUT.value) / "growth.png"
    report.save(_plot(found), path)
    print(f"figure: {path}")


if __name__ == "__main__":
    cli.run(main)
