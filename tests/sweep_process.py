"""Binaries as processes, forked from one that has the imports done.

A sweep among them can be killed, denied space on disk or its privileges, and may be one
of the library, which does the same by a call of `lvm_jax.train`.
"""

import atexit
import ctypes
import multiprocessing
import os
import pathlib
import resource
import runpy
import signal
import struct
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

import lvm_jax
from lvm_jax import sparse_coding
from lvm_jax.sweep import devices
from lvm_jax.training import never, workdir

_FLAGS = [
    *("--levels=4,5", "--num_seeds=3", "--epochs=60", "--checkpoint_every=4"),
    *("--epochs_per_call=2", "--num_samples=400", "--held_out=60", "--gamma=30"),
    "--block=1",  # several in a row
]
ROOT = pathlib.Path(__file__).parents[1]
# Of one group of latents, and of one shape: compiled once for all tests that take it.
SHAPE = ("--levels=17,18", "--num_seeds=2", "--num_samples=200", "--epochs_per_call=2")
_PATIENCE = 300  # seconds, on machines that are slow or busy
_TABLES = (workdir.HISTORY, workdir.KEPT, workdir.RESULTS, workdir.DATA)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["experiments.cli"])


def _drop_capabilities():
    """Lets file modes hold for root, too: capset(2) with no capability."""
    header, nothing = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0] * 6)
    assert ctypes.CDLL(None).capset(header, nothing) == 0


def train(arguments: list[str], stop=None):
    """What the binary does, from Python: the results."""
    flags = dict(argument.removeprefix("--").split("=") for argument in arguments)
    dataset = sparse_coding.make(
        lvm_jax.key(0), float(flags["gamma"]), num_samples=int(flags["num_samples"])
    )
    limit = flags.get("memory_limit")
    return lvm_jax.train(
        sparse_coding.task(dataset, num_held_out=int(flags["held_out"])),
        lvm_jax.Plan(
            levels=map(int, flags["levels"].split(",")),
            seeds=range(int(flags["num_seeds"])),
            settings={"default": sparse_coding.AlternatingMinimizationHyperparams()},
            epochs_per_call=int(flags["epochs_per_call"]),
            block=int(flags["block"]) if "block" in flags else None,
        ),
        int(flags["epochs"]),
        workdir=flags["workdir"],
        checkpoint_every=int(flags["checkpoint_every"]),
        memory_limit=None if limit is None else float(limit) * 2**20,
        stop=stop or never,
    )


def _call(arguments):
    """The library in a process of its own, which a signal may end.

    In a job each process writes the histories that it gets.
    """
    flags = dict(argument.removeprefix("--").split("=") for argument in arguments)
    stop = lvm_jax.Interruption()
    if "process_id" in flags:
        index = int(flags["process_id"])
        devices.join(devices.Place(flags["coordinator"], 2, index))
    devices.configure(int(flags.get("devices", 0)))
    try:
        results = train(arguments, stop)
    except lvm_jax.Stopped:
        sys.exit(stop.status)
    if "process_id" in flags:
        np.savez(f"{flags['workdir']}.{index}.npz", **results.history)


def _run(binary, arguments):
    """As `python -m` would."""
    sys.argv = [binary, *arguments]
    runpy.run_module(f"experiments.{binary}", run_name="__main__")


def _keep_all_compiled():
    """Also the small programs, of which a start compiles a hundred."""
    configure = devices.configure

    def configured(num_devices=0):
        found = configure(num_devices)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        return found

    devices.configure = configured


def _write_to(output, errors):
    _keep_all_compiled()
    for number, path in ((1, output), (2, errors)):
        with open(path, "a") as file:
            os.dup2(file.fileno(), number)


def _run_quickly(binary, arguments, environment, output, errors):
    os.environ |= environment
    _write_to(output, errors)
    jax.config.update("jax_disable_most_optimizations", True)
    _run(binary, arguments)


def run(binary: str, *arguments, **environment) -> subprocess.CompletedProcess:
    """A binary from its start to its end, compiled quickly.

    JAX is loaded already: what the environment tells it is not heard, unlike what it
    tells XLA.
    """
    arguments = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder, name) for name in ("output", "errors")]
        process = _context.Process(
            target=_run_quickly,
            args=(binary, arguments, environment, *map(str, files)),
        )
        process.start()
        process.join(_PATIENCE)
        assert process.exitcode is not None, [file.read_text() for file in files]
        texts = [file.read_text() for file in files]
    return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def check_refused(binary: str, path: pathlib.Path, arguments, message: str) -> None:
    """It ends with one line and status 2, and leaves no workdir."""
    done = run(binary, "--workdir", path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not path.exists()


def _main(arguments, output, limit, is_privileged, is_library):
    """A sweep in a process of its own."""
    _write_to(output, output)
    jax.config.update("jax_disable_most_optimizations", True)
    if not is_privileged:
        _drop_capabilities()
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        if is_library:
            _call(arguments)
        else:
            _run("sparse_coding", arguments)
    finally:
        atexit._run_exitfuncs()  # as of any other process: one of a job leaves it


class SweepProcess:
    """A running sweep."""

    def __init__(
        self,
        path: pathlib.Path,
        *more: str,
        output=None,
        limit=0,
        is_privileged=True,
        is_library=False,
    ):
        self.path = path
        self.output = output or path.with_name(f"{path.name}.{time.monotonic_ns()}.log")
        self.output.touch()
        arguments = [f"--workdir={path}", *_FLAGS, *more]
        self.process = _context.Process(
            target=_main,
            args=(arguments, str(self.output), limit, is_privileged, is_library),
        )
        self.process.start()

    def wait(self) -> int:
        self.process.join(_PATIENCE)
        assert self.process.exitcode is not None, self.text
        return self.process.exitcode

    @property
    def text(self) -> str:
        return self.output.read_text().replace("\r", "\n")

    @property
    def error(self) -> str:
        """The line that it ended with."""
        return self.text.strip().splitlines()[-1]

    def wait_for_training(self) -> None:
        """Returns once its first compiled call is about to begin."""
        deadline = time.monotonic() + _PATIENCE
        while "by level" not in self.text:
            assert time.monotonic() < deadline and self.process.is_alive(), self.text
            time.sleep(0.01)

    def wait_for_checkpoint(self, after: int = 0) -> None:
        """Returns once a checkpoint later than the epoch `after` is whole."""
        deadline = time.monotonic() + _PATIENCE
        while max(checkpoints(self.path), default=0) <= after:
            assert time.monotonic() < deadline and self.process.is_alive(), self.text
            time.sleep(0.005)

    def kill(self) -> int:
        """Its exit status, 0 if it was done before."""
        os.kill(self.process.pid, signal.SIGKILL)
        return self.wait()


def checkpoints(path: pathlib.Path) -> list[int]:
    """The epochs of the first wave's checkpoints."""
    directory = path / "waves" / "0000" / "checkpoints"
    return sorted(int(entry.stem) for entry in directory.glob("[0-9]*.json"))


def _read(path: pathlib.Path) -> dict[str, bytes]:
    files = [path / name for name in _TABLES] + sorted((path / "figures").glob("*"))
    return {file.name: file.read_bytes() for file in files}


def check_same(path: pathlib.Path, reference: pathlib.Path) -> None:
    """Tables, parameters and figures, if it has any, are equal bit for bit."""
    found, expected = _read(path), _read(reference)
    has_figures = (path / "figures").exists()
    if has_figures:
        assert found.keys() == expected.keys()
    assert found.keys() >= set(_TABLES)
    for name in found:
        assert found[name] == expected[name], name
