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
from lvm_jax.training import workdir
from lvm_jax.training.waves import Wave


def _largest(directory: pathlib.Path) -> pathlib.Path:
    files = [file for file in directory.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def _truncate(file: pathlib.Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flip(file: pathlib.Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A sweep killed on its way."""
    path = tmp_path_factory.mktemp("interrupted") / "run"
    sweep = SweepProcess(path)
    sweep.wait_for_checkpoint(20)
    sweep.kill()
    assert len(checkpoints(path)) > 1
    return path


@pytest.mark.parametrize("damage", [_truncate, _flip])
@pytest.mark.parametrize("kind", ["checkpoint", "history"])
def test_a_damaged_checkpoint_is_named_and_not_used(
    tmp_path, interrupted, reference, damage, kind
):
    path = tmp_path / "run"
    shutil.copytree(interrupted, path)
    newest = max(checkpoints(path))
    if kind == "checkpoint":
        damage(_largest(path / "waves/0000/checkpoints" / str(newest)))
    else:
        damage(next((path / "waves/0000/history").glob(f"*-{newest:08d}.npz")))
    sweep = SweepProcess(path, is_library=damage is _flip)
    assert sweep.wait() == 0, sweep.text
    (warning,) = [line for line in sweep.text.splitlines() if "is damaged" in line]
    assert f"checkpoint of epoch {newest} " in warning
    check_same(path, reference)


def test_without_a_whole_checkpoint_nothing_is_removed(tmp_path, interrupted):
    path = tmp_path / "run"
    shutil.copytree(interrupted, path)
    before = checkpoints(path)
    _truncate(min((path / "waves/0000/history").iterdir()))
    sweep = SweepProcess(path)
    assert sweep.wait() == 2, sweep.text
    assert f"got {len(before)} that cannot be read" in sweep.error
    assert checkpoints(path) == before
    _check_refused(SweepProcess(path, "--gamma=31"), "gamma=31.0 (there 30.0)")


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
    with workdir.opened(path, workdir.read_json(path / workdir.PLAN)["identity"]):
        _check_refused(SweepProcess(path), f"in use by process {os.getpid()} on")


def test_a_newer_format_is_refused(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    (path / workdir.PLAN).write_text('{"format": 9}')
    _check_refused(SweepProcess(path), "expected a workdir of format 2")


def test_an_older_format_is_refused(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / "flags.json").write_text('{"format": 1, "flags": {}}')
    _check_refused(SweepProcess(path, "--overwrite"), "of format 2, got")
    assert [entry.name for entry in path.iterdir()] == ["flags.json"]


def test_other_flags_are_refused_by_name_unless_overwriting(tmp_path, reference):
    path = tmp_path / "run"
    shutil.copytree(reference, path)
    _check_refused(
        SweepProcess(path, "--batch_size=10", "--gamma=31"),
        "batch_size=10 (there 20), data.gamma=31.0 (there 30.0)",
    )
    _check_refused(SweepProcess(path, "--threshold=0.01"), "setting 'default' and seed")
    check_same(path, reference)
    sweep = SweepProcess(path, "--step_size=0.2", "--epochs=1", "--overwrite")
    assert sweep.wait() == 0, sweep.text
    assert checkpoints(path) == [1]


def test_a_kill_while_a_workdir_is_made_or_cleared_leaves_it_usable(
    tmp_path, reference
):
    """What is left is an empty workdir, or one that only --overwrite goes on with."""
    made = tmp_path / "made"
    made.mkdir()
    (made / ".plan.json.partial").write_text("{")
    with workdir.opened(made, {}):
        pass
    cleared = tmp_path / "cleared"
    shutil.copytree(reference, cleared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", _stop)
        with (
            pytest.raises(KeyboardInterrupt),
            workdir.opened(cleared, {}, overwrite=True),
        ):
            pass
    with pytest.raises(workdir.WorkdirError, match="of format 0"):
        workdir.opened(cleared, {}).__enter__()
    with workdir.opened(cleared, {}, overwrite=True):
        assert workdir.read_waves(cleared, _plan(0)) == []


def _stop(path):
    raise KeyboardInterrupt


def test_waves_are_those_with_a_checkpoint_and_none_is_missing(tmp_path):
    for index in range(3):
        directory = workdir.add_wave(tmp_path, index, _plan(index))
        if index < 2:
            (directory / "checkpoints" / "5").mkdir(parents=True)
    assert workdir.read_waves(tmp_path, _plan(0, 1)) == [
        Wave((8,), ("study",), (0,)),
        Wave((8,), ("study",), (1,)),
    ]
    shutil.rmtree(tmp_path / "waves" / "0000")
    with pytest.raises(ValueError, match=r"expected waves 0000 .*got 0001"):
        workdir.read_waves(tmp_path, _plan(0, 1))


def _plan(*seeds, threshold=0.005):
    numbers = sparse_coding.AlternatingMinimizationHyperparams(threshold=threshold)
    return lvm_jax.Plan(levels=(8,), seeds=seeds, settings={"study": numbers})


def test_a_setting_of_the_same_name_and_other_numbers_is_refused(tmp_path):
    directory = workdir.add_wave(tmp_path, 0, _plan(0))
    (directory / "checkpoints" / "5").mkdir(parents=True)
    with pytest.raises(workdir.WorkdirError, match=r"threshold=0\.01 \(there 0\.005\)"):
        workdir.read_waves(tmp_path, _plan(0, threshold=0.01))


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    _check_refused(SweepProcess(tmp_path, "--overwrite"), "which has other files")
    assert (tmp_path / "thesis.tex").exists()


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
