"""noisy_or as a process: a small run, and flags that make no sense."""

import json
import sys

import numpy as np
import pytest
from sweep_process import SHAPE, check_refused, run

from lvm_jax.files import table
from lvm_jax.noisy_or import MeanFieldHyperparams
from lvm_jax.training import load
from lvm_jax.training import workdir as layout


@pytest.fixture(scope="module")
def noisy_or(tmp_path_factory):
    """A run on two levels, of which one is too wide to enumerate."""
    workdir = tmp_path_factory.mktemp("noisy_or") / "run"
    done = run(
        "noisy_or",
        *("--workdir", workdir, "--levels", "8,24", "--num_seeds", 2, "--seed", 3),
        *("--epochs", 3, "--epochs_per_call", 2, "--num_samples", 400),
        *("--held_out", 40),
    )
    assert done.returncode == 0, done.stderr
    return done, workdir


@pytest.mark.slow  # Compiles two groups.
def test_noisy_or_prints_a_table_and_progress(noisy_or):
    done, _ = noisy_or
    assert "at least" in done.stdout and "held-out log P(x) of the truth" in done.stdout
    assert "3/3" in done.stderr and "runs x epochs/s" in done.stderr


@pytest.mark.slow  # Compiles two groups.
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
        "num_discarded",
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


@pytest.mark.slow  # Compiles two groups.
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


@pytest.mark.slow  # Compiles another learner.
def test_mean_field_has_the_studys_batches_epochs_and_models_to_keep(tmp_path):
    workdir = tmp_path / "run"
    args = ("--learner", "mean_field", "--levels", 4, "--num_seeds", 2)
    sizes = ("--num_samples", 60, "--held_out", 20)
    done = run("noisy_or", "--workdir", workdir, *args, *sizes)
    assert done.returncode == 0, done.stderr
    plan = load(workdir).plan
    assert (plan.batch_size, plan.snapshot_every) == (1, 1)
    rate = MeanFieldHyperparams(0.01)
    assert plan.settings == {"study": {4: rate}}
    history = table.read_rows(workdir / layout.HISTORY)
    assert [row["epoch"] for row in history] == [1, 2] * 2
    for row in table.read_rows(workdir / layout.KEPT):
        assert row["held_out_elbo"] < row["held_out_log_likelihood"] + 0.5
    assert (workdir / "figures" / "latents.png").exists()


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
        (["--seed", 2**31 - 1], "seeds from 0 to 2147483647, got 2147483648"),
        (["--data_seed", 2**32], "a seed from 0 to 4294967295, got 4294967296"),
        (["--data_seed", 2**63], "a seed from 0 to 4294967295, got"),
        (["--num_seeds", 10**9], "at most 1048576 seeds, got more"),
        (["--num_samples", 10**12], "--num_samples=1000000000000"),
        (["--levels", 10**8], "levels that fit into"),
        (["--memory_limit=0", *SHAPE], "a memory limit of at least"),
        (["--block", "9" * 30], "--block=9"),
        (["--epochs_per_call", 2**31], "--epochs_per_call=2147483648"),
        (["--levels", "9" * 5000], "whole numbers of at least 1"),
        (["--theta_rate=0.1,0.10"], "settings without repeats, got theta_rate=0.1"),
        (["--rate=0.1,0.10"], "expected rates without repeats, got 0.1 twice"),
        (["--data_dir=nowhere", "--num_samples=300"], "--num_samples, got both"),
        (["--flagfile", sys.executable], "flags in UTF-8 in the file of --flagfile"),
        (["--coordinator=here", "--num_processes=2"], "a coordinator HOST:PORT"),
        (["--memory_limit", "nan"], "a finite number, got --memory_limit=nan"),
        (["--batch_size=20000", "--num_samples=300"], "a batch of at most 270"),
        (["--held_out=300", "--num_samples=300"], "expected fewer held-out samples"),
        (["--devices", "999"], "expected at most"),
        (["--epochs", "many"], "--epochs=many"),
        (["--q_rate", "-1"], "numbers of at least 0, separated by commas"),
        (["--batch_size=1"], "a batch of at least 2 samples, got 1"),
        (["--learner=mean_field", "--nocritic"], "--learner nvil for --nocritic"),
        (["--nocritic", "--critic_rate=0.1"], "--nocritic or --critic_rate, got both"),
        (
            ["--learner=mean_field", "--q_rate=1"],
            "flags of mean_field, theta_rate,",
        ),
        (["--bogus", "1"], "bogus"),
        (["stray"], "expected flags only, got 'stray'"),
    ],
)
def test_bad_noisy_or_is_one_line_and_leaves_nothing(tmp_path, args, message):
    check_refused("noisy_or", tmp_path / "run", args, message)


@pytest.mark.slow  # Trains.
def test_a_rate_is_that_of_both_networks_at_every_level(tmp_path):
    path = tmp_path / "run"
    done = run("noisy_or", "--workdir", path, "--rate=0.01,0.2", "--epochs=2", *SHAPE)
    assert done.returncode == 0, done.stderr
    settings = load(path).plan.settings
    assert list(settings) == ["rate=0.01", "rate=0.2"]
    for rate, setting in zip((0.01, 0.2), settings.values(), strict=True):
        assert setting[17] == setting[18] == (rate, rate, 1e-4)
    check_refused(
        "noisy_or",
        tmp_path / "other",
        ["--rate=0.1", "--q_rate=0.1"],
        "expected --rate or --q_rate, got both",
    )


@pytest.mark.slow  # Compiles two groups.
def test_the_study_s_settings_are_used_and_shown(tmp_path, release_dir):
    done = run(
        "noisy_or",
        *("--workdir", tmp_path / "run", "--dataset=PLNT", "--data_dir", release_dir),
        *("--levels=8,17", "--num_seeds=1", "--dry_run"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "setting study: theta_rate=0.1 q_rate=0.1 critic_rate=1e-05 at 8; "
        "theta_rate=0.01 q_rate=0.01 critic_rate=1e-05 at 17"
    )
