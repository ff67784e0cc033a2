"""Two processes with two host devices each do what one process does."""

import os
import shutil
import socket

import numpy as np
import pytest
from sweep_process import SweepProcess, check_same

from lvm_jax.files import table
from lvm_jax.training import load, workdir

pytestmark = [
    pytest.mark.slow,  # Two processes in each.
    pytest.mark.skipif(
        len(os.sched_getaffinity(0)) < 2, reason="a process needs two host devices"
    ),
]
_NUM_ROWS = 2 * 4 * 40


def _start(path, *more, **how):
    flags = ["--levels=17,18", "--num_seeds=4", "--epochs=40", "--block=4"]
    flags += ["--devices=2", *more]
    return SweepProcess(path, *flags, **how)


def _coordinator():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"--coordinator=localhost:{free.getsockname()[1]}"


def _start_two(path, *more, second=(), **how):
    """Two processes of a job, of which the second may have further flags."""
    job = [_coordinator(), "--num_processes=2", *more]
    return [
        _start(path, *job, f"--process_id={index}", *own, **how)
        for index, own in enumerate(((), second))
    ]


def _wait(*processes):
    """What they have printed, once all have ended well."""
    for process in processes:
        assert process.wait() == 0, process.text
    return [process.text for process in processes]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The sweep in one process."""
    path = tmp_path_factory.mktemp("alone") / "run"
    _wait(_start(path))
    return path


def _check_same(path, other):
    """Bit for bit, though the runs were spread over other devices."""
    check_same(path, other)
    assert len(table.read_rows(path / workdir.HISTORY)) == _NUM_ROWS


def test_two_processes_give_the_files_of_one(tmp_path, alone):
    path = tmp_path / "run"
    outputs = _wait(*_start_two(path))
    assert "on 4 devices" in outputs[0]
    assert "tables, parameters and figures" in outputs[0]
    assert "tables, parameters and figures" not in outputs[1]
    _check_same(path, alone)


def test_two_processes_resume_and_grow_and_both_have_the_results(tmp_path, alone):
    """What one process has begun, by the library."""
    path = tmp_path / "run"
    _wait(_start(path, "--epochs=8", "--levels=17", "--num_seeds=2"))
    shutil.rmtree(path / "figures")
    _wait(*_start_two(path, is_library=True))
    _check_same(path, alone)
    expected = load(alone).history
    for index in range(2):
        with np.load(f"{path}.{index}.npz") as found:
            assert set(found) == set(expected)
            for name in found:
                np.testing.assert_array_equal(found[name], expected[name])


def test_a_lost_process_stops_the_job_which_one_process_ends(tmp_path, alone):
    path = tmp_path / "run"
    first, second = _start_two(path)
    first.wait_for_checkpoint()
    second.kill()
    assert first.wait() == 2, first.text
    assert "error: expected all processes of the job to answer" in first.text
    _wait(_start(path))
    _check_same(path, alone)


def test_a_lost_first_process_stops_the_others_with_one_line(tmp_path):
    """Whatever they are at: JAX's runtime would abort them with a page of its own."""
    first, second = _start_two(tmp_path / "run", "--epochs=1000000")
    first.wait_for_checkpoint()
    first.kill()
    assert second.wait() == 2 and "***" not in second.text, second.text
    expected = "error: expected all processes of the job to answer"
    assert second.error.startswith(expected), second.text


_ASKED = "expected all processes to be asked for what the first one is, got"


def test_processes_that_are_asked_for_different_things_all_end(tmp_path):
    path = tmp_path / "run"
    processes = _start_two(path, second=["--dry_run"])
    other = "something else in process 1", "dry_run=True (there False)"
    for process, got in zip(processes, other, strict=True):
        assert process.wait() == 2, process.text
        lines = process.text.splitlines()
        (line,) = [line for line in lines if not line.startswith("[Gloo]")]
        assert line == f"error: {_ASKED} {got}"
    assert not path.exists()


def test_processes_that_train_different_things_all_raise(tmp_path):
    path = tmp_path / "run"
    for process in _start_two(path, second=["--gamma=31"], is_library=True):
        assert process.wait() == 1, process.text
        assert f"ValueError: {_ASKED}" in process.text
    assert "data.gamma=31.0 (there 30.0)" in process.text
    assert not path.exists()


def test_a_process_that_nobody_joins_ends_with_one_line(tmp_path):
    flags = ["--num_processes=2", "--process_id=1", "--join_seconds=1"]
    process = _start(tmp_path / "run", _coordinator(), *flags)
    assert process.wait() == 2, process.text
    (line,) = process.text.splitlines()
    assert line.startswith("error: expected 2 processes at localhost:")
    assert line.endswith("in 1 s, got fewer")
