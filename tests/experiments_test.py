"""Every binary as a process: a small run, and flags that make no sense."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lvm_jax.files import archive, table
from lvm_jax.training import load
from lvm_jax.training import workdir as layout

_ROOT = pathlib.Path(__file__).parents[1]


def _run(binary, *args):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{binary}", *map(str, args)],
        cwd=_ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _check_refused(binary, workdir, args, message):
    done = _run(binary, "--workdir", workdir, *args)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not workdir.exists()


@pytest.fixture(scope="module")
def noisy_or(tmp_path_factory):
    """A run on two levels, of which one is too wide to enumerate."""
    workdir = tmp_path_factory.mktemp("noisy_or") / "run"
    done = _run(
        "noisy_or",
        *("--workdir", workdir, "--levels", "8,24", "--num_seeds", 2, "--seed", 3),
        *("--epochs", 3, "--epochs_per_call", 2, "--num_samples", 400),
        *("--held_out", 40),
    )
    assert done.returncode == 0, done.stderr
    return done, workdir


def test_noisy_or_prints_a_table_and_progress(noisy_or):
    done, _ = noisy_or
    assert "at least" in done.stdout and "held-out log P(x) of the truth" in done.stdout
    assert "3/3" in done.stderr and "runs x epochs/s" in done.stderr


def test_noisy_or_writes_tables(noisy_or):
    _, workdir = noisy_or
    history = table.read_rows(workdir / layout.HISTORY)
    assert [(row["level"], row["seed"], row["epoch"]) for row in history] == [
        (level, seed, epoch)
        for level in (8, 24)
        for seed in (3, 4)
        for epoch in (1, 2, 3)
    ]
    assert list(history[0])[:9] == [
        "dataset",
        "level",
        "setting",
        "theta_rate",
        "q_rate",
        "critic_rate",
        "seed",
        "epoch",
        "train_elbo",
    ]
    assert set(history[0]) >= {
        "num_recovered",
        "num_kept",
        "num_recovered_after_filter",
        "diverged",
    }
    kept = table.read_rows(workdir / layout.KEPT)
    assert len(kept) == 4
    assert [row["held_out_log_likelihood_is_bound"] for row in kept] == [
        False,
        False,
        True,
        True,
    ]
    for row in kept:
        assert row["held_out_elbo"] < row["held_out_log_likelihood"] + 0.5


def test_noisy_or_writes_flags_parameters_and_figures(noisy_or):
    _, workdir = noisy_or
    about = json.loads((workdir / layout.FLAGS).read_text())
    flags, settings = about["flags"], about["plan"]["settings"]
    assert flags["levels"] == ["8", "24"] and flags["batch_size"] == 20
    assert settings["study"]["24"]["critic_rate"] == 1e-4
    results = load(workdir)
    assert results.kept[24].params.model.failure_logits.shape == (1, 2, 24, 64)
    assert np.isfinite(results.kept[8].params.q.weight).all()
    assert {path.name for path in (workdir / "figures").iterdir()} == {
        "elbo.png",
        "elbo_by_epoch.png",
        "full_recovery.png",
        "log_likelihood.png",
        "recovered.png",
        "recovered_by_epoch.png",
        "latents.png",
    }


def test_sparse_coding_writes_tables_and_figures(tmp_path):
    workdir = tmp_path / "run"
    done = _run(
        "sparse_coding",
        *("--workdir", workdir, "--levels", "24,30", "--num_seeds", 2, "--epochs", 3),
        *("--num_samples", 300, "--held_out", 60, "--gamma", 30, "--sparsity", 3),
    )
    assert done.returncode == 0, done.stderr
    assert "recovered of 24" in done.stdout
    history = table.read_rows(workdir / layout.HISTORY)
    assert len(history) == 2 * 2 * 3
    assert list(history[0])[:7] == [
        "dataset",
        "level",
        "setting",
        "step_size",
        "threshold",
        "seed",
        "epoch",
    ]
    assert all(row["held_out_error"] > 0 for row in history)
    assert load(workdir).kept[30].params.dictionary.shape == (1, 2, 30, 100)
    assert {path.stem for path in (workdir / "figures").iterdir()} == {
        "cosines",
        "error",
        "error_by_epoch",
        "full_recovery",
        "recovered",
        "recovered_by_epoch",
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--gamma", "180"], "gamma above 0 and below 180 degrees, got 180"),
        (
            ["--sparsity", "25"],
            "a sparsity from 1 to 24, the number of columns, got 25",
        ),
        (["--data_dir", "nowhere"], "got no folder"),
        (["--dataset", "gamma10"], "expected --data_dir"),
        (["--precision", "float16"], "precision=float16"),
    ],
)
def test_bad_sparse_coding_is_one_line_and_leaves_nothing(tmp_path, args, message):
    _check_refused("sparse_coding", tmp_path / "run", args, message)


def test_neural_pcfg_writes_tables_and_figures(tmp_path):
    workdir = tmp_path / "run"
    done = _run(
        "neural_pcfg",
        *("--workdir", workdir, "--levels", "3", "--num_seeds", 2, "--epochs", 2),
        *("--num_samples", 150, "--held_out", 30, "--num_test", 30, "--devices", 1),
        *("--num_parsed", 30, "--max_words", 3, "--num_buckets", 1, "--radius", 0.5),
        *("--grammar", "random", "--true_symbols", 2, "--vocabulary", 7),
    )
    assert done.returncode == 0, done.stderr
    assert "test NLL per word of the truth" in done.stdout
    assert "F1 of left-branching trees" in done.stdout
    history = table.read_rows(workdir / layout.HISTORY)
    assert [row["level"] for row in history] == ["3x3"] * 4
    assert all(0 <= row["f1"] <= 1 and row["held_out_nll"] > 0 for row in history)
    kept = table.read_rows(workdir / layout.KEPT)
    assert all(0 <= row["test_f1_inner"] <= row["test_f1"] <= 1 for row in kept)
    assert all(row["test_nll"] > 0 for row in kept)
    learned = load(workdir).kept[3, 3].params
    assert learned["rule_weight"].shape == (1, 2, 6, 6, 256)
    truth = archive.read(workdir / "truth.npz")
    assert truth["words"].tolist() == [f"w{index}" for index in range(7)]
    assert {path.stem for path in (workdir / "figures").iterdir()} == {
        "f1_by_epoch",
        "full_recovery",
        "nll_by_epoch",
        "num_nonterminals_recovered",
        "num_nonterminals_recovered_by_epoch",
        "recovered",
        "recovered_by_epoch",
        "test_f1",
        "test_f1_inner",
        "test_nll",
        "trees",
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--grammar", "a", "--corpus", "b"], "expected --grammar or --corpus, got"),
        (["--grammar", "English"], "english, random or a file as grammar"),
        (["--levels", "100000"], "expected levels that fit into"),
        (["--grammar=random", "--radius=1.5"], "a radius above 0 and below 1, got 1.5"),
    ],
)
def test_bad_neural_pcfg_is_one_line_and_leaves_nothing(tmp_path, args, message):
    _check_refused("neural_pcfg", tmp_path / "run", args, message)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dataset", "IMGX"], "expected a data set among IMG"),
        (["--dataset", "PLNT"], "--data_dir"),
        (["--data_dir", "nowhere"], "got no folder"),
        (["--levels", "8,0"], "whole numbers of at least 1"),
        (["--levels", "8,8"], "levels without repeats"),
        (["--levels", ""], "whole numbers of at least 1"),
        (["--levels", "4294967304,8"], "levels of at least 1 and below 2147483648"),
        (["--seed", "9" * 20], "seeds from 0 to 2147483647"),
        (["--memory_limit", "nan"], "a finite number, got --memory_limit=nan"),
        (["--batch_size", "20000"], "expected a batch of at most 9000"),
        (["--held_out", "10000"], "expected fewer held-out samples"),
        (["--devices", "999"], "expected at most"),
        (["--epochs", "many"], "--epochs=many"),
        (["--q_rate", "-1"], "numbers of at least 0, separated by commas"),
        (["--bogus", "1"], "bogus"),
        (["stray"], "expected flags only, got 'stray'"),
    ],
)
def test_bad_noisy_or_is_one_line_and_leaves_nothing(tmp_path, args, message):
    _check_refused("noisy_or", tmp_path / "run", args, message)
