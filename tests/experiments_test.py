"""Every binary as a process: a small run, and flags that make no sense."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from sweep_process import check_refused, run

from lvm_jax import pcfg
from lvm_jax.files import archive, table
from lvm_jax.noisy_or import MeanFieldHyperparams
from lvm_jax.training import load
from lvm_jax.training import workdir as layout

_ROOT = pathlib.Path(__file__).parents[1]

# Of one group of latents, and of one shape: compiled once for all tests that take it.
_SHAPE = ("--levels=17,18", "--num_seeds=2", "--num_samples=200", "--epochs_per_call=2")


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


def test_sparse_coding_writes_tables_and_figures(tmp_path):
    workdir = tmp_path / "run"
    done = run(
        "sparse_coding",
        *("--workdir", workdir, "--epochs", 3, "--gamma", 30, "--sparsity", 3),
        *_SHAPE,
    )
    assert done.returncode == 0, done.stderr
    assert "recovered of 24" in done.stdout
    history = table.read_rows(workdir / layout.HISTORY)
    assert len(history) == 2 * 2 * 3
    assert list(history[0])[:8] == [
        "dataset",
        "level",
        "setting",
        "step_size",
        "threshold",
        "guard",
        "seed",
        "epoch",
    ]
    assert all(row["held_out_error"] > 0 for row in history)
    assert load(workdir).kept[18].params.dictionary.shape == (1, 2, 18, 100)
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
        (
            ["--learner=masked", "--hidden=0.5,1"],
            "a share below 1 of hidden variables, got 1",
        ),
    ],
)
def test_bad_sparse_coding_is_one_line_and_leaves_nothing(tmp_path, args, message):
    check_refused("sparse_coding", tmp_path / "run", args, message)


@pytest.mark.slow  # Compiles a sweep of grammars.
def test_neural_pcfg_writes_tables_and_figures(tmp_path):
    workdir = tmp_path / "run"
    done = run(
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
        (["--levels=100000", "--max_words=3"], "expected levels that fit into"),
        (["--min_words", "1"], "--min_words=1"),
        (["--grammar=random", "--radius=1.5"], "a radius above 0 and below 1, got 1.5"),
    ],
)
def test_bad_neural_pcfg_is_one_line_and_leaves_nothing(tmp_path, args, message):
    check_refused("neural_pcfg", tmp_path / "run", args, message)


def _corpus(tmp_path):
    """Flags of a true grammar that is learned from a text."""
    rng = np.random.default_rng(0)
    sentences = [rng.choice(list("abcdefgh"), rng.integers(2, 4)) for _ in range(40)]
    path = tmp_path / "a$b.txt"
    path.write_text("".join(" ".join(words) + "\n" for words in sentences))
    return [
        *("--corpus", path, "--true_symbols=2", "--true_epochs=12", "--max_words=3"),
        *("--num_buckets=1", "--num_samples=100", "--held_out=20", "--levels=2"),
    ]


@pytest.mark.slow  # Compiles four sweeps of grammars.
def test_a_true_grammar_is_learned_as_durably_as_any_sweep(tmp_path):
    flags, workdir = _corpus(tmp_path), tmp_path / "run"
    learned = tmp_path / "run.truth"
    only = ["--workdir", workdir, *flags, "--truth_only"]
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.neural_pcfg", *map(str, only)],
        cwd=_ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as stopped:
        assert any("epoch 1:" in line for line in stopped.stdout)
        stopped.send_signal(signal.SIGTERM)
        stopped.communicate(timeout=300)
    assert stopped.returncode == 143
    assert not workdir.exists() and not (learned / layout.RESULTS).exists()
    refused = run("neural_pcfg", *only, "--data_seed=1")
    assert refused.returncode == 2 and "data.seed=1 (there 0)" in refused.stderr
    done = run("neural_pcfg", *only)
    assert done.returncode == 0, done.stderr
    assert "epoch 12:" in done.stdout and "epoch 1:" not in done.stdout
    history = table.read_rows(learned / layout.HISTORY)
    assert [row["epoch"] for row in history] == list(range(1, 13))
    _, words = pcfg.read_grammar(workdir / "truth.npz")
    assert sorted(words) == [pcfg.UNKNOWN, *"abcdefgh"]


@pytest.mark.slow  # Compiles two sweeps of grammars.
def test_what_a_learned_truth_would_be_refused_for_is_refused_before(tmp_path):
    flags = [*_corpus(tmp_path), "--batch_size=81"]
    check_refused("neural_pcfg", tmp_path / "run", flags, "at least 81 sentences")
    assert not (tmp_path / "run.truth").exists()
    planned = run(
        *("neural_pcfg", "--workdir", tmp_path / "run", *flags),
        *("--batch_size=80", "--dry_run"),
    )
    assert planned.returncode == 0, planned.stderr
    assert "at 2x2\nwave 1 of 1: 1 run " in planned.stdout
    assert planned.stdout.endswith("planned once the true grammar is learned\n")
    assert {path.name for path in tmp_path.iterdir()} == {"a$b.txt"}


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
        (["--memory_limit=0", *_SHAPE], "a memory limit of at least"),
        (["--block", "9" * 30], "--block=9"),
        (["--epochs_per_call", 2**31], "--epochs_per_call=2147483648"),
        (["--levels", "9" * 5000], "whole numbers of at least 1"),
        (["--theta_rate=0.1,0.10"], "settings without repeats, got theta_rate=0.1"),
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
    done = run("noisy_or", "--workdir", path, "--rate=0.01,0.2", "--epochs=2", *_SHAPE)
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


@pytest.mark.slow  # Four processes.
def test_the_environment_changes_no_bit_or_is_refused_by_name(tmp_path):
    """A sweep that is resumed under other settings of JAX, or of XLA."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for path, epochs in ((whole, 4), (cut, 2)):
        done = run("noisy_or", "--workdir", path, f"--epochs={epochs}", *_SHAPE)
        assert done.returncode == 0, done.stderr
    refused = "--xla_cpu_enable_fast_math=true --xla_dump_to=/nowhere"
    resumed = "--workdir", cut, "--epochs=4", *_SHAPE
    done = run("noisy_or", *resumed, XLA_FLAGS=refused)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "XLA_FLAGS=['--xla_cpu_enable_fast_math=true'] (there [])" in line
    others = {
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_RANDOM_SEED_OFFSET": "3",
        "JAX_DEBUG_NANS": "1",
        "JAX_DEBUG_KEY_REUSE": "1",
        "JAX_TRANSFER_GUARD": "disallow",
        "HOME": "/proc/nowhere",
    }
    quickly = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.noisy_or", *map(str, resumed)],
        cwd=_ROOT,
        env=os.environ | quickly | others,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "epoch/s" not in line] == []
    for name in (layout.HISTORY, layout.KEPT, layout.RESULTS, layout.DATA):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_platform_that_is_not_there_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.noisy_or", f"--workdir={tmp_path / 'run'}"],
        cwd=_ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: expected devices of the platform cuda, got none")


def test_a_signal_while_modules_load_is_quiet(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "experiments.noisy_or"]
    with subprocess.Popen(
        [*command, "--workdir", str(tmp_path / "run")],
        cwd=_ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if line.split()[-1] == "numpy":
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == -signal.SIGINT
    assert all(line.startswith("import time:") for line in rest.splitlines()), rest


def test_a_threshold_of_zero_is_a_threshold(tmp_path):
    flags = ["--levels=2", "--num_samples=60", "--threshold=0", "--dry_run"]
    done = run("sparse_coding", "--workdir", tmp_path / "run", *flags)
    assert "threshold=0.0: step_size=0.1 threshold=0 guard=0 at 2" in done.stdout, done
