"""Two processes with two host devices each do what one process does."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from sweep_process import check_same, checkpoints

from lvm_jax.files import table
from lvm_jax.training import load, workdir

_ROOT = pathlib.Path(__file__).parents[1]
_FLAGS = [
    *("--levels=4,5", "--num_seeds=4", "--epochs=40", "--checkpoint_every=4"),
    *("--epochs_per_call=2", "--num_samples=400", "--held_out=60", "--gamma=30"),
    "--devices=2",
]
pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="a process needs two host devices"
)
_NUM_ROWS = 2 * 4 * 40


_LIBRARY = """
import sys
import numpy as np
from lvm_jax.sweep import devices
from sweep_process import train
coordinator, index, output, *arguments = sys.argv[1:]
devices.join(devices.Place(coordinator, 2, int(index)))
devices.configure(2)
np.savez(output, **train(arguments).history)
"""


def _popen(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT / "tests")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _start(path, *more):
    flags = [f"--workdir={path}", *_FLAGS, *more]
    return _popen("-m", "experiments.sparse_coding", *flags)


def _coordinator():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def _start_two(path, *more):
    job = [f"--coordinator={_coordinator()}", "--num_processes=2"]
    return [_start(path, *job, f"--process_id={index}", *more) for index in range(2)]


def _wait(processes):
    """What they have printed, once all have ended well."""
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(outputs), outputs
    return outputs


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The sweep in one process."""
    path = tmp_path_factory.mktemp("alone") / "run"
    process = _start(path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return path


def _check_same(path, other):
    """Bit for bit, though the runs were spread over other devices."""
    check_same(path, other)
    assert len(table.read_rows(path / workdir.HISTORY)) == _NUM_ROWS


def test_two_processes_give_the_files_of_one(tmp_path, alone):
    path = tmp_path / "run"
    outputs = _wait(_start_two(path))
    assert "on 4 devices" in outputs[0]
    assert "tables, parameters and figures" in outputs[0]
    assert "tables, parameters and figures" not in outputs[1]
    _check_same(path, alone)


def test_two_processes_resume_and_grow_and_both_have_the_results(tmp_path, alone):
    """What one process has begun, by the library."""
    path = tmp_path / "run"
    _wait([_start(path, "--epochs=8", "--levels=4", "--num_seeds=2")])
    shutil.rmtree(path / "figures")
    coordinator = _coordinator()
    flags = [f"--workdir={path}", *_FLAGS]
    _wait(
        [
            _popen(
                "-c", _LIBRARY, coordinator, index, tmp_path / f"{index}.npz", *flags
            )
            for index in range(2)
        ]
    )
    _check_same(path, alone)
    expected = load(alone).history
    for index in range(2):
        with np.load(tmp_path / f"{index}.npz") as found:
            assert set(found) == set(expected)
            for name in found:
                np.testing.assert_array_equal(found[name], expected[name])


def test_a_lost_process_stops_the_job_which_one_process_ends(tmp_path, alone):
    path = tmp_path / "run"
    first, second = _start_two(path)
    while not checkpoints(path):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    os.kill(second.pid, signal.SIGKILL)
    output, _ = first.communicate(timeout=120)
    second.communicate()
    assert first.returncode == 2, output
    assert "error: expected all processes of the job to answer" in output, output
    resumed = _start(path)
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, output
    _check_same(path, alone)


def test_a_lost_first_process_stops_the_others_with_one_line(tmp_path):
    """Whatever they are at: JAX's runtime would abort them with a page of its own."""
    first, second = _start_two(tmp_path / "run", "--epochs=1000000")
    while not checkpoints(tmp_path / "run"):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    output, _ = second.communicate(timeout=120)
    first.communicate()
    *_, last = output.splitlines()
    assert second.returncode == 2 and "***" not in output, output
    assert last.startswith("error: expected all processes of the job to answer")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gamma=31"], "data.gamma=31.0 (there 30.0)"),
        (["--dry_run"], "num_epochs=None (there 40)"),
    ],
)
def test_processes_that_are_asked_for_different_things_all_end(
    tmp_path, flags, message
):
    path, job = tmp_path / "run", [f"--coordinator={_coordinator()}"]
    job += ["--num_processes=2"]
    processes = [
        _start(path, *job, "--process_id=0"),
        _start(path, *job, "--process_id=1", *flags),
    ]
    for process, got in zip(processes, ("another in process 1", message), strict=True):
        output, _ = process.communicate(timeout=60)
        lines = [line for line in output.splitlines() if not line.startswith("[Gloo]")]
        assert process.returncode == 2 and len(lines) == 1, output
        assert lines[0].startswith("error: expected the call of the first process in")
        assert got in lines[0]
    assert not path.exists()


def test_a_process_that_nobody_joins_ends_with_one_line(tmp_path):
    flags = ["--num_processes=2", "--process_id=1", "--join_seconds=1"]
    process = _start(tmp_path / "run", f"--coordinator={_coordinator()}", *flags)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    (line,) = output.splitlines()
    assert line.startswith("error: expected 2 processes at localhost:")
    assert line.endswith("in 1 s, got fewer")
