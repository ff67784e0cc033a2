"""Checkpoints that are damaged, mistaken for one another, or cannot be read."""

import errno
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import warnings

import jax
import numpy as np
import pytest

import lvm_jax
from lvm_jax import sparse_coding
from lvm_jax.files import archive, regular
from lvm_jax.sweep.run import Record
from lvm_jax.training import WorkdirError, workdir
from lvm_jax.training.checkpoint import _as_records

_WAVE = "waves/0000"


def _train(path, epochs):
    dataset = sparse_coding.make(lvm_jax.key(0), 30.0, num_samples=60)
    plan = lvm_jax.Plan(
        levels=(4,),
        seeds=(0, 1),
        settings={"study": sparse_coding.AlternatingMinimizationHyperparams()},
        batch_size=10,
        epochs_per_call=2,
    )
    task = sparse_coding.task(dataset, num_held_out=10)
    return lvm_jax.train(
        task, plan, epochs, workdir=path, checkpoint_every=2, progress=lambda _: None
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with checkpoints of epochs 4, 6 and 8, and what 10 epochs give."""
    path = tmp_path_factory.mktemp("trained")
    _train(path / "run", 8)
    return path / "run", _train(path / "whole", 10)


@pytest.fixture
def run(tmp_path, trained):
    return shutil.copytree(trained[0], tmp_path / "run")


def _checkpoint(run, epoch, suffix):
    return run / _WAVE / "checkpoints" / f"{epoch:08d}.{suffix}"


def _epochs(run):
    return [int(path.stem) for path in sorted(_checkpoint(run, 0, "").parent.iterdir())]


def _content(path):
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    return {file.relative_to(path): file.read_bytes() for file in files}


def _check_goes_on(run, trained):
    results, expected = _train(run, 10), trained[1]
    for name, values in expected.history.items():
        np.testing.assert_array_equal(results.history[name], values)
    assert _epochs(run) == [6, 6, 8, 8, 10, 10]


def _truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def _flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [_truncate, _flip, pathlib.Path.unlink])
@pytest.mark.parametrize("part", ["npz", "json", "history"])
def test_a_damaged_checkpoint_is_named_and_not_used(run, trained, part, damage):
    path = _checkpoint(run, 8, part)
    if part == "history":
        path = run / _WAVE / "history" / "00000006-00000008.npz"
    if (part, damage) == ("json", pathlib.Path.unlink):
        pytest.skip("it is no checkpoint then")
    damage(path)
    with pytest.warns(UserWarning, match="checkpoint of epoch 8 .* is damaged"):
        _check_goes_on(run, trained)


def test_a_checkpoint_of_another_epoch_is_not_used(run, trained):
    for suffix in ("json", "npz"):
        shutil.copy(_checkpoint(run, 6, suffix), _checkpoint(run, 8, suffix))
    with pytest.warns(UserWarning, match="expected what is known up to epoch 8, got"):
        _check_goes_on(run, trained)


@pytest.mark.parametrize(
    "about",
    [
        [],
        {},
        {"epoch": 8},
        {"epoch": 8, "records": 3, "runs": 4},
        {"epoch": 8, "records": {}, "runs": ""},
        {"epoch": 8, "records": {"../../../data.npz": 3}, "runs": None},
    ],
)
def test_digests_of_another_shape_are_damage(run, trained, about):
    _checkpoint(run, 8, "json").write_text(json.dumps(about))
    with pytest.warns(UserWarning, match="is damaged"):
        _check_goes_on(run, trained)


def test_without_a_whole_checkpoint_nothing_is_removed(run):
    _truncate(run / _WAVE / "history" / "00000000-00000002.npz")
    before = _content(run)
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(WorkdirError, match="got 3 that are damaged"),
    ):
        _train(run, 10)
    assert _content(run) == before


def test_other_files_beside_checkpoints_change_nothing(run, trained):
    for name in ("copy-of.npz", "00000000-00000099.npz", ".nfs0001", "a-b.npz"):
        (run / _WAVE / "history" / name).write_bytes(b"mine")
    _checkpoint(run, 8, "json").with_name("notes.txt").write_text("mine")
    results = _train(run, 10)
    np.testing.assert_array_equal(
        results.history["held_out_error"], trained[1].history["held_out_error"]
    )
    assert (run / _WAVE / "history" / "copy-of.npz").exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("name", ["8.json", "8.npz"])
def test_an_error_of_the_system_ends_the_run_and_condemns_nothing(
    run, trained, monkeypatch, number, name
):
    """A bad moment of a disk, or of a process with too many open files."""
    before, open_file = _content(run), regular.open_file

    def failing(path):
        if path.name.endswith(name) and _WAVE in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path)

    with monkeypatch.context() as patch:
        patch.setattr(regular, "open_file", failing)
        with pytest.raises(OSError, match=os.strerror(number)):
            _train(run, 10)
    assert _content(run) == before
    _check_goes_on(run, trained)


@pytest.mark.parametrize("number", range(7))
def test_a_stop_at_any_file_leaves_the_checkpoint_before_or_the_new_one(
    run, trained, monkeypatch, number
):
    """A full disk, or a kill: whichever file of a checkpoint is the last one."""
    replace, calls = os.replace, itertools.count()

    def failing(source, target):
        if _WAVE in str(target) and next(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="No space left"):
            _train(run, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _check_goes_on(run, trained)


def test_records_come_back_whatever_metrics_are_called():
    values = np.arange(6.0).reshape(2, 3)
    record = Record(
        train={"loss/a": values, "loss/b/c": -values},
        held_out={"loss": values},
        recovery={},
        trace={"path": values},
        diverged=values > 3,
    )
    (back,) = _as_records(archive.flatten((record,)))
    assert back.train.keys() == record.train.keys()
    jax.tree.map(np.testing.assert_array_equal, back, record)


def test_a_checkpoint_of_other_shapes_is_refused(run):
    """Of a learner whose state has changed."""
    path = _checkpoint(run, 8, "npz")
    arrays = archive.read(path)
    np.savez(path, **arrays | {"0/live": np.ones((2, 5), np.float32)})
    about = workdir.read_json(_checkpoint(run, 8, "json"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    workdir.write_json(_checkpoint(run, 8, "json"), about | {"runs": digest})
    with pytest.raises(WorkdirError, match=r"0/live of float32 \(2, 4\) .*, got"):
        _train(run, 10)
