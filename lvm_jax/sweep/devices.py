"""Devices, the processes of a job, and the settings that compiled programs run under.

Only `configure` and `join` change JAX for the whole process: a binary calls them once,
before it uses a device.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.linalg  # noqa: F401, loads the BLAS that jaxlib calls.
import threadpoolctl
from jax.experimental import multihost_utils

from lvm_jax import numerics

_HEARTBEAT_SECONDS = 30
_LARGEST_PORT = 65535
# The others wait for the first process, which writes tables and figures.
_SHUTDOWN_SECONDS = 24 * 3600


@contextlib.contextmanager
def settings(precision: str = "float32") -> Iterator[None]:
    """What compiled programs run under, whatever a user's settings are.

    The settings of JAX that numbers depend on, and one thread for a call of BLAS:
    threads of its own would contend with those of other devices (three times slower on
    two cores), and round otherwise.

    Args:
      precision: "float32" or "float64".

    Yields:
      None.
    """
    with (
        numerics.settings(precision),
        threadpoolctl.threadpool_limits(1, user_api="blas"),
    ):
        yield


def configure(num_devices: int = 0) -> list[jax.Device]:
    """Chooses the devices, and keeps compiled programs for the next process.

    On a CPU each core becomes a device of its own, and a sweep spreads its runs over
    devices. Compiled programs are kept in $JAX_COMPILATION_CACHE_DIR, else in
    ~/.cache/lvm_jax, else, for a user without a home, not at all.

    Args:
      num_devices: how many devices of each process to use; 0 for all devices of an
        accelerator, or as many as this process may use cores.

    Returns:
      The devices, those of all processes of a job.

    Raises:
      ValueError: if there are fewer devices, or none of the platform that JAX is told
        to use.
    """
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    if not jax.config.jax_compilation_cache_dir:
        with contextlib.suppress(RuntimeError):  # There is no home.
            cache = pathlib.Path.home() / ".cache" / "lvm_jax"
            jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    num_local = len(_local_devices())
    if num_devices > num_local:
        raise ValueError(f"expected at most {num_local} devices, got {num_devices}")
    by_process = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    return [
        device
        for own in by_process.values()
        for device in own[: num_devices or len(own)]
    ]


def _local_devices() -> list[jax.Device]:
    try:
        return jax.local_devices()
    except (AssertionError, RuntimeError) as error:
        platforms = jax.config.jax_platforms
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"expected devices of the platform {platforms or 'that JAX finds'}, got "
            f"none: {reason}".rstrip(": ")
        ) from error


class Place(NamedTuple):
    """Which process of which job this is.

    Attributes:
      coordinator: HOST:PORT of the first process.
      num_processes: of the job.
      process_id: of this process, from 0.
    """

    coordinator: str
    num_processes: int
    process_id: int


def place_in_job(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Place | None:
    """Which process of which job this is; None without a job.

    Args:
      coordinator: HOST:PORT of the first process. What is None is taken from
        $JAX_COORDINATOR_ADDRESS, $JAX_NUM_PROCESSES and $JAX_PROCESS_ID.
      num_processes: processes of the job.
      process_id: this process, from 0.

    Raises:
      ValueError: if the three do not belong together.
    """
    environment = os.environ.get
    coordinator = coordinator or environment("JAX_COORDINATOR_ADDRESS")
    if num_processes is None:
        num_processes = environment("JAX_NUM_PROCESSES")
    if process_id is None:
        process_id = environment("JAX_PROCESS_ID")
    given = coordinator, num_processes, process_id
    if given == (None, None, None):
        return None
    with contextlib.suppress(TypeError, ValueError):
        place = Place(coordinator, int(num_processes), int(process_id))
        host, _, port = place.coordinator.rpartition(":")
        is_port = port.isascii() and port.isdecimal() and int(port) <= _LARGEST_PORT
        if host and is_port and 0 <= place.process_id < place.num_processes:
            return place
    raise ValueError(
        "expected a coordinator HOST:PORT, a number of processes and a process below "
        f"it, got {', '.join(map(str, given))}"
    )


def join(place: Place, seconds: int = 300) -> None:
    """Joins the other processes of a job.

    JAX aborts a process that the others do not join in time.

    Args:
      place: of this process.
      seconds: how long to wait for the others.

    Raises:
      ValueError: if the port of the first process is in use.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            *place,
            initialization_timeout=seconds,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(
            f"expected a port that is free at {place.coordinator}, got {error}"
        ) from error


def is_joined() -> bool:
    """Whether this process is one of a job."""
    return jax.distributed.is_initialized()


def memory(devices: Iterable[jax.Device]) -> int:
    """Bytes of memory that each of the devices of this process has.

    Host devices share the machine's, or what a container may have of it.

    Args:
      devices: of one kind, some of them this process'.
    """
    local = jax.local_devices()
    own = [device for device in devices if device in local] or local
    limit = (own[0].memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        return limit
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, *control_group_limits()) // len(own)


def control_group_limits(
    root: pathlib.Path = pathlib.Path("/sys/fs/cgroup"),
    own: pathlib.Path = pathlib.Path("/proc/self/cgroup"),
) -> Iterator[int]:
    """Bytes that the control groups of this process, and those around them, may use.

    Source: the Linux kernel's cgroup-v1/memory and cgroup-v2.

    Args:
      root: where their file system is mounted.
      own: lines ID:CONTROLLERS:PATH of the groups that the process is in.
    """
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            file = "memory.limit_in_bytes" if controllers else "memory.max"
            top = root / "memory" if controllers else root
            group = pathlib.PurePosixPath(path.lstrip("/"))
            for place in (group, *group.parents):
                # A container does not see the path, and has its own group at the top.
                with contextlib.suppress(OSError, ValueError):
                    yield int((top / place / file).read_text())


def is_first_process() -> bool:
    """Whether this process writes the files of its job."""
    return jax.process_index() == 0


def meet() -> None:
    """Returns once every process of the job is here, however long that takes."""
    if jax.process_count() > 1:
        multihost_utils.process_allgather(np.bool_(True))


def on_every_process(value: Any) -> Any:
    """What the first process has, as JSON has it, on every process.

    Args:
      value: of the first process; the others' is not looked at.
    """
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    padded = np.zeros(length, np.uint8)
    padded[: min(length, text.size)] = text[:length]
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)))
