"""Settings of JAX that a binary makes once, before it uses a device."""

import os
import pathlib

import jax
import scipy.linalg  # noqa: F401, loads the BLAS that jaxlib calls.
import threadpoolctl

_CACHE = pathlib.Path.home() / ".cache" / "lvm_jax"


def configure(num_devices: int = 0, *, precision: str = "float32") -> list[jax.Device]:
    """Chooses the devices, and keeps compiled programs for the next process.

    On a CPU each core becomes a device of its own: a sweep spreads its runs over
    devices, and BLAS keeps to the thread that calls it: threads of its own would
    contend with those of other devices (three times slower on two cores). Matrix
    products are computed in full float32 on every platform. Compiled programs are
    kept in $JAX_COMPILATION_CACHE_DIR, else in ~/.cache/lvm_jax.

    Args:
      num_devices: how many devices to use; 0 for all devices of an accelerator, or
        as many as this process may use cores.
      precision: "float64" to have 64-bit numbers as the default.

    Returns:
      The devices.

    Raises:
      ValueError: if there are fewer devices.
    """
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    jax.config.update("jax_default_matmul_precision", "highest")
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(_CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_enable_x64", precision == "float64")
    threadpoolctl.threadpool_limits(1, user_api="blas")
    devices = jax.devices()
    if num_devices > len(devices):
        raise ValueError(f"expected at most {len(devices)} devices, got {num_devices}")
    return devices[: num_devices or None]
