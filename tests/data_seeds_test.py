"""Several data seeds: a sweep on each, in one workdir and one table."""

import shutil

import numpy as np
import pytest
from sweep_process import check_refused, run

from lvm_jax.files import table
from lvm_jax.training import load
from lvm_jax.training import workdir as layout

pytestmark = pytest.mark.slow  # A process in each.

# Of one shape: compiled once.
_SWEEP = ("--gamma=30", "--levels=4,5", "--num_seeds=2", "--epochs=2")
_SWEEP = (*_SWEEP, "--num_samples=200", "--epochs_per_call=2")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A sweep on the samples of one data seed."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    done = run("sparse_coding", "--workdir", workdir, "--data_seed=0", *_SWEEP)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A sweep on the samples and truths of two data seeds."""
    workdir = tmp_path_factory.mktemp("several") / "run"
    done = run("sparse_coding", "--workdir", workdir, "--data_seed=5,0", *_SWEEP)
    assert done.returncode == 0, done.stderr
    return done, workdir


def test_several_data_seeds_are_each_trained_as_if_alone(several, one):
    done, workdir = several
    for name in (layout.RESULTS, layout.DATA, layout.HISTORY):
        of_several, of_one = (
            (path / name).read_bytes() for path in (workdir / "data0", one)
        )
        assert of_several == of_one
    rows = table.read_rows(workdir / layout.KEPT)
    assert [(row["data_seed"], row["level"], row["seed"]) for row in rows] == [
        (data_seed, level, seed)
        for data_seed in (5, 0)
        for level in (4, 5)
        for seed in (0, 1)
    ]
    own = table.read_rows(one / layout.KEPT)
    assert [row | {"data_seed": 0} for row in own] == rows[4:]
    truths = [load(workdir / f"data{seed}") for seed in (0, 5)]
    assert not np.array_equal(*(of.kept[4].params.dictionary for of in truths))
    assert "over 2 truths and samples" in done.stdout
    assert (workdir / "figures" / "recovered_by_epoch.png").exists()


def test_more_data_seeds_train_only_the_new_ones(tmp_path, several):
    _, workdir = several
    path = shutil.copytree(workdir, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*checkpoints/*")}
    more = run("sparse_coding", "--workdir", path, "--data_seed=0,1,5", *_SWEEP)
    assert more.returncode == 0, more.stderr
    assert {file: file.stat().st_mtime_ns for file in before} == before
    seeds = [row["data_seed"] for row in table.read_rows(path / layout.KEPT)]
    assert seeds == [0] * 4 + [1] * 4 + [5] * 4


def test_a_workdir_of_several_data_seeds_is_not_that_of_one(several, one):
    _, workdir = several
    for path, seeds in ((workdir, "0"), (one, "0,1")):
        before = {
            file: file.read_bytes() for file in path.rglob("*.*") if file.is_file()
        }
        refused = run(
            "sparse_coding", "--workdir", path, f"--data_seed={seeds}", *_SWEEP
        )
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
        assert "expected the task and plan" in refused.stderr
        assert {file: file.read_bytes() for file in before} == before


def test_overwriting_several_data_seeds_leaves_what_is_not_ours(tmp_path, several):
    _, workdir = several
    path = shutil.copytree(workdir, tmp_path / "run")
    (path / "notes.txt").write_text("mine")
    changed = ("--gamma=31", *_SWEEP[1:])
    refused = run("sparse_coding", "--workdir", path, "--data_seed=0,5", *changed)
    assert refused.returncode == 2 and "gamma=31" in refused.stderr
    done = run(
        "sparse_coding", "--workdir", path, "--data_seed=0,5", "--overwrite", *changed
    )
    assert done.returncode == 0, done.stderr
    assert (path / "notes.txt").read_text() == "mine"
    assert "notes.txt" in done.stderr
    assert len(table.read_rows(path / layout.KEPT)) == 8


@pytest.mark.parametrize(
    ("binary", "args", "message"),
    [
        ("noisy_or", ["--data_seed=1,1"], "data seeds without repeats, got 1, 1"),
        ("noisy_or", ["--data_seed=a"], "whole numbers of at least 0"),
        ("noisy_or", ["--data_seed=0,1", "--data_dir=."], "or --data_seed, got both"),
        ("neural_pcfg", ["--data_seed=0,1"], "expected one data seed here, got 0, 1"),
    ],
)
def test_data_seeds_that_make_no_sense_are_refused(tmp_path, binary, args, message):
    check_refused(binary, tmp_path / "run", args, message)
