r"""What a noisy-OR sweep launches on a GPU, counted without one.

    pip install 'jax[cuda12]' && JAX_PLATFORMS=cpu python -m experiments.bench_kernels

Compiles the sweep of each level, all its runs side by side, for an H200 that need not
be there, and counts in the compiled program: kernels, bytes and products of a step,
kernels of an epoch, and how long a step takes if a kernel takes as long as its bytes,
its products or --kernel_us, whichever is longest. From that, what the study's table
takes: five data sets, 1000 epochs. Two minutes.
"""

import pathlib

import jax
from absl import flags
from jax.experimental import topologies

import lvm_jax
from experiments import cli, kernels
from lvm_jax import noisy_or
from lvm_jax.sweep.run import count_steps

_LEVELS = cli.define_levels([8, 16, 32, 64, 128])
_NUM_RUNS = flags.DEFINE_integer("num_runs", 500, "Runs of each level.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 20, "Samples of one step.", lower_bound=1, upper_bound=9000
)
_KERNEL_US = flags.DEFINE_float(
    "kernel_us", 3.0, "Microseconds that any kernel takes.", lower_bound=0.0
)
_HLO = flags.DEFINE_string("hlo", None, "Folder that compiled programs are put into.")

_NUM_DATA_SETS, _NUM_EPOCHS = 5, 1000  # of the study's table
_BANDWIDTH = 4.8e12  # bytes a second, and FLOP in float32, of an H200's data sheet
_SPEED = 6.7e13
_H200 = f"""
platform_name: "CUDA"
device_description_str: "NVIDIA H200"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  core_count: 132
  fpus_per_core: 128
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  memory_bandwidth: {_BANDWIDTH:.0f}
  device_memory_size: 150000000000
}}
"""


def _devices() -> list[jax.Device]:
    try:
        return topologies.get_topology_desc(
            platform="cuda", target_config=_H200, topology="1x1x1"
        ).devices
    except NotImplementedError as error:
        raise ValueError(
            "expected jax[cuda12] to compile for a GPU with, and JAX_PLATFORMS=cpu "
            f"where there is none, got {error}"
        ) from error


def _compiled(level: int, devices: list[jax.Device]) -> tuple[kernels.Loop, int]:
    """The program of a level, and the steps of its epochs."""
    task = noisy_or.task(noisy_or.make("IMG", lvm_jax.key(0)))
    plan = lvm_jax.Plan(
        levels=(level,),
        seeds=range(_NUM_RUNS.value),
        settings={"study": noisy_or.NvilHyperparams()},
        batch_size=_BATCH_SIZE.value,
        block=_NUM_RUNS.value,
    )
    sweep = lvm_jax.Sweep(task, plan, devices=jax.devices()[:1])
    text = sweep.lower(devices).compile().as_text()
    if _HLO.value:
        folder = pathlib.Path(_HLO.value)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"nvil_{level}.txt").write_text(text)
    return kernels.read(text), count_steps(task.train, _BATCH_SIZE.value)


def main() -> None:
    """Compiles and prints."""
    devices, latency = _devices(), _KERNEL_US.value * 1e-6
    headings = ["level", "kernels a step", "MB a step", "GFLOP a step"]
    headings += ["kernels an epoch", "us a step", "ms an epoch", "minutes of the table"]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    total = 0.0
    for level in map(int, _LEVELS.value):
        program, num_steps = _compiled(level, devices)
        (epoch,) = (loop for loop in program.loops if list(loop.find(num_steps)))
        (step,) = epoch.find(num_steps)
        seconds, of_epoch = (
            loop.total(lambda kernel: kernel.seconds(latency, _BANDWIDTH, _SPEED))
            for loop in (step, epoch)
        )
        of_table = _NUM_DATA_SETS * _NUM_EPOCHS * of_epoch / 60
        total += of_table
        cells = [
            str(level),
            str(step.launches()),
            f"{step.total(lambda kernel: kernel.num_bytes) / 1e6:.0f}",
            f"{step.total(lambda kernel: kernel.flop) / 1e9:.2f}",
            str(epoch.launches()),
            f"{seconds * 1e6:.0f}",
            f"{of_epoch * 1e3:.0f}",
            f"{of_table:.1f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"the study's table, {_NUM_RUNS.value} runs: {total:.0f} minutes")


if __name__ == "__main__":
    cli.run(main)
