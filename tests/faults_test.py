"""Sweeps that find their files damaged, their disk full, or their workdir another's."""

import os
import pathlib
import pickle
import shutil

import pytest
from sweep_process import SweepProcess, check_same, checkpoints

import lvm_jax
from lvm_jax import sparse_coding
from lvm_jax.files import archive
from lvm_jax.training import ownership, workdir
from lvm_jax.training.waves import Wave


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A sweep killed on its way."""
    path = tmp_path_factory.mktemp("interrupted") / "run"
    sweep = SweepProcess(path)
    sweep.wait_for_checkpoint(20)
    sweep.kill()
    assert len(checkpoints(path)) > 1
    return path


@pytest.mark.slow  # Three processes.
def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path, interrupted, reference):
    path = tmp_path / "run"
    shutil.copytree(interrupted, path)
    newest = max(checkpoints(path))
    file = path / "waves/0000/checkpoints" / f"{newest:08d}.npz"
    os.truncate(file, file.stat().st_size // 2)
    sweep = SweepProcess(path)
    assert sweep.wait() == 0, sweep.text
    (warning,) = [line for line in sweep.text.splitlines() if "is damaged" in line]
    assert warning.startswith(f"warning: the checkpoint of epoch {newest} ")
    check_same(path, reference)


@pytest.mark.slow  # Two processes or more.
def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(
    tmp_path, interrupted, reference
):
    path = tmp_path / "run"
    shutil.copytree(interrupted, path)
    before = checkpoints(path)
    sweep = SweepProcess(path, limit=2000)
    assert sweep.wait() == 2, sweep.text
    assert sweep.error.startswith("error: "), sweep.text
    assert "Traceback" not in sweep.text
    assert set(before) & set(checkpoints(path))
    sweep = SweepProcess(path)
    assert sweep.wait() == 0, sweep.text
    assert "is damaged" not in sweep.text
    check_same(path, reference)


def _check_refused(sweep: SweepProcess, message: str) -> None:
    assert sweep.wait() == 2
    assert message in sweep.error and len(sweep.text.splitlines()) == 1, sweep.text


def test_a_workdir_in_use_is_refused(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    with ownership.opened(path, None):
        _check_refused(SweepProcess(path), f"in use by process {os.getpid()} on")


@pytest.mark.slow  # Two processes or more.
def test_other_flags_are_refused_by_name_unless_overwriting(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    flags = (path / workdir.FLAGS).read_bytes()
    _check_refused(
        SweepProcess(path, "--batch_size=10", "--gamma=31"),
        "batch_size=10 (there 20), data.gamma=31.0 (there 30.0)",
    )
    _check_refused(SweepProcess(path, "--threshold=0.01"), "setting 'default' and seed")
    check_same(path, reference)
    assert (path / workdir.FLAGS).read_bytes() == flags
    sweep = SweepProcess(path, "--step_size=0.2", "--epochs=1", "--overwrite")
    assert sweep.wait() == 0, sweep.text
    assert checkpoints(path) == [1]


def test_waves_are_those_with_a_checkpoint_and_none_is_missing(tmp_path):
    workdir.write_json(tmp_path / workdir.PLAN, {})
    for index in range(3):
        directory = workdir.add_wave(tmp_path, index, _plan(index))
        if index < 2:
            _add_checkpoint(directory)
    _add_checkpoint(tmp_path / "waves" / "0000 (copy)")
    assert workdir.read_waves(tmp_path, _plan(0, 1)) == [
        Wave((8,), ("study",), (0,)),
        Wave((8,), ("study",), (1,)),
    ]
    shutil.rmtree(tmp_path / "waves" / "0000")
    with pytest.raises(ValueError, match=r"expected waves 0000 .*got 0001"):
        workdir.read_waves(tmp_path, _plan(0, 1))


def _add_checkpoint(directory):
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "checkpoints" / "00000005.json").touch()


def _plan(*seeds, threshold=0.005):
    numbers = sparse_coding.AlternatingMinimizationHyperparams(threshold=threshold)
    return lvm_jax.Plan(levels=(8,), seeds=seeds, settings={"study": numbers})


def test_a_setting_of_the_same_name_and_other_numbers_is_refused(tmp_path):
    workdir.write_json(tmp_path / workdir.PLAN, {})
    directory = workdir.add_wave(tmp_path, 0, _plan(0))
    _add_checkpoint(directory)
    with pytest.raises(workdir.WorkdirError, match=r"threshold=0\.01 \(there 0\.005\)"):
        workdir.read_waves(tmp_path, _plan(0, threshold=0.01))


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path):
    path = pathlib.Path("/proc/lvm_jax")
    _check_refused(SweepProcess(path, output=tmp_path / "log"), str(path))


def test_a_read_only_workdir_is_refused_and_left_as_it_is(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    for entry in [path, *path.rglob("*")]:
        entry.chmod(entry.stat().st_mode & ~0o222)
    sweep = SweepProcess(path, "--epochs=64", is_privileged=False)
    _check_refused(sweep, "Permission denied")
    check_same(path, reference)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    path.write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(ValueError, match="pickled"):
        archive.read(path)
