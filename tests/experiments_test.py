"""Every binary as a process: a small run, and flags that make no sense."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from sweep_process import run

from lvm_jax import pcfg
from lvm_jax.files import archive, table
from lvm_jax.noisy_or import MeanFieldHyperparams
from lvm_jax.training import load
from lvm_jax.training import workdir as layout

_ROOT = pathlib.Path(__file__).parents[1]

# Of one group of latents, and of one shape: compiled once for all tests that take it.
_SHAPE = ("--levels=17,18", "--num_seeds=2", "--num_samples=200", "--epochs_per_call=2")


def _check_refused(binary, workdir, args, message):
    done = run(binary, "--workdir", workdir, *args)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not workdir.exists()


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
    _check_refused("neural_pcfg", tmp_path / "run", args, message)


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


def test_what_a_learned_truth_would_be_refused_for_is_refused_before(tmp_path):
    flags = [*_corpus(tmp_path), "--batch_size=81"]
    _check_refused("neural_pcfg", tmp_path / "run", flags, "at least 81 sentences")
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
    _check_refused("noisy_or", tmp_path / "run", args, message)


_SMALL = ("--levels=17,18", "--num_seeds=2", "--epochs=3", "--batch_size=4")


def _own_samples(tmp_path):
    """A table with a header, as a spreadsheet writes it, and its true network."""
    rows = np.random.default_rng(0).integers(0, 2, (40, 5))
    lines = ["a,b,c,d,e", *(",".join(map(str, row)) for row in rows)]
    path = tmp_path / "mine.csv"
    path.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode() + b"\r\n")
    np.savez(
        tmp_path / "truth.npz",
        prior=np.full(2, 0.3),
        failure=np.where(np.arange(10).reshape(2, 5) % 3, 1.0, 0.1),
        noise=np.full(5, 0.9),
    )
    return path, tmp_path / "truth.npz"


_OF_RUNS = "recurring", "shares", "agreement"  # figures


def test_own_samples_are_learned_without_a_truth_and_with_one(tmp_path):
    samples, truth = _own_samples(tmp_path)
    workdir = tmp_path / "run"
    done = run("noisy_or", "--workdir", workdir, "--samples", samples, *_SMALL)
    assert done.returncode == 0, done.stderr
    assert "recovered" not in done.stdout.split("by level")[1].split("\n", 1)[1]
    results = load(workdir)
    assert results.name == "mine" and results.num_truths is None
    assert results.history["held_out_elbo"].shape == (2, 1, 2, 3)
    data = archive.read(workdir / layout.DATA)
    assert data["held_out"].shape == data["validation"].shape == (2, 1)
    figures = {path.stem for path in (workdir / "figures").iterdir()}
    assert figures == {"elbo", "elbo_by_epoch", "log_likelihood", *_OF_RUNS}
    known = tmp_path / "known"
    flags = ("--samples", samples, "--truth", truth, "--theta_rate=0.04,0.1", *_SMALL)
    done = run("noisy_or", "--workdir", known, *flags)
    assert done.returncode == 0, done.stderr
    assert "recovered of 2" in done.stdout and "(paired by seed)" in done.stdout
    results = load(known)
    assert results.num_truths == 2
    assert list(results.plan.settings) == ["theta_rate=0.04", "theta_rate=0.1"]
    np.testing.assert_array_equal(
        results.history["held_out_elbo"][:, 0],
        load(workdir).history["held_out_elbo"][:, 0],
    )
    refused = run("noisy_or", "--workdir", known, *flags, "--data_seed=1")
    assert refused.returncode == 2 and "data.sha256=" in refused.stderr


def test_what_recurs_in_own_samples_is_shown_by_name_and_calibrated(tmp_path):
    """Four latents that turn on four variables each."""
    random = np.random.default_rng(0)
    x = np.repeat(random.random((600, 4)) < 0.3, 4, axis=1)
    x &= random.random(x.shape) < 0.95
    names = [
        f"{of} {number}" for of in ("ash", "bay", "elm", "fir") for number in "1234"
    ]
    path, workdir = tmp_path / "mine.csv", tmp_path / "run"
    rows = [names, *x.astype(int).astype(str)]
    path.write_text("\n".join(map(",".join, rows)))
    flags = ("--samples", path, "--levels=17,18", "--num_seeds=4", "--epochs=60")
    flags = (*flags, "--rate=0.03", "--calibrate=2", "--epochs_per_call=20")
    done = run("noisy_or", "--workdir", workdir, *flags)
    assert done.returncode == 0, done.stderr
    assert "recommended: 17" in done.stdout
    listed = done.stdout.split("strongest on")[1].split("calibration")[0]
    for of in ("ash", "bay", "elm", "fir"):
        assert any(
            all(f"{of} {i}" in line for i in "1234") for line in listed.split("\n")
        )
    rows = table.read_rows(workdir / layout.CONSENSUS)
    assert {row["level"] for row in rows} == {17, 18}
    best = [row for row in rows if row["is_recommended"]]
    assert len(best) >= 4 and all(0.5 <= row["share"] <= 1 for row in best)
    on = (
        np.array([[row[f"failure {name}"] for name in names] for row in best[:4]]) < 0.5
    )
    assert sorted(np.flatnonzero(row).tolist() for row in on) == [
        list(range(4 * of, 4 * of + 4)) for of in range(4)
    ]
    arrays = archive.read(workdir / layout.CONSENSUS_ARRAYS)
    (setting,) = load(workdir).plan.settings
    assert arrays[f"17/{setting}/latents/failure"].shape == (len(best), 16)
    assert "if data came from these latents alone (2 redrawn)" in done.stdout
    beside = tmp_path / "run.calibration"
    folders = sorted(path.name for path in beside.iterdir())
    assert [name.split("-")[1] for name in folders] == ["data0", "data1"]
    assert load(beside / folders[1]).plan.levels == (17,)
    figures = {path.stem for path in (workdir / "figures").iterdir()}
    assert figures >= {*_OF_RUNS, "calibration"}
    again = run("noisy_or", "--workdir", workdir, *flags)
    assert again.stdout.split("recur in")[1] == done.stdout.split("recur in")[1]


def test_what_cannot_be_calibrated_is_refused_before_training(tmp_path):
    for flags in (["--num_seeds=1"], ["--levels=8"], ["--data_seed=0,1"]):
        workdir = tmp_path / "run"
        _check_refused("noisy_or", workdir, ["--calibrate=1", *flags], "--calibrate")


_CON8 = ("--dataset=CON8", "--epochs=2", *_SHAPE)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A sweep on the samples of one data seed."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    done = run("noisy_or", "--workdir", workdir, "--data_seed=0", *_CON8)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A sweep on the samples and truths of two data seeds."""
    workdir = tmp_path_factory.mktemp("several") / "run"
    done = run("noisy_or", "--workdir", workdir, "--data_seed=5,0", *_CON8)
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
        for level in (17, 18)
        for seed in (0, 1)
    ]
    own = table.read_rows(one / layout.KEPT)
    assert [row | {"data_seed": 0} for row in own] == rows[4:]
    truths = [load(workdir / f"data{seed}") for seed in (0, 5)]
    assert not np.array_equal(*(of.kept[17].params.q.mean for of in truths))
    assert "over 2 truths and samples" in done.stdout
    assert (workdir / "figures" / "recovered_by_epoch.png").exists()


def test_more_data_seeds_train_only_the_new_ones(tmp_path, several):
    _, workdir = several
    path = shutil.copytree(workdir, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*checkpoints/*")}
    more = run("noisy_or", "--workdir", path, "--data_seed=0,1,5", *_CON8)
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
        refused = run("noisy_or", "--workdir", path, f"--data_seed={seeds}", *_CON8)
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
        assert "expected the task and plan" in refused.stderr
        assert {file: file.read_bytes() for file in before} == before


def test_overwriting_several_data_seeds_leaves_what_is_not_ours(tmp_path, several):
    _, workdir = several
    path = shutil.copytree(workdir, tmp_path / "run")
    (path / "notes.txt").write_text("mine")
    changed = ("--dataset=CON24", *_CON8[1:])
    refused = run("noisy_or", "--workdir", path, "--data_seed=0,5", *changed)
    assert refused.returncode == 2 and "CON24" in refused.stderr
    done = run(
        "noisy_or", "--workdir", path, "--data_seed=0,5", "--overwrite", *changed
    )
    assert done.returncode == 0, done.stderr
    assert (path / "notes.txt").read_text() == "mine"
    assert "notes.txt" in done.stderr
    assert len(table.read_rows(path / layout.KEPT)) == 8


def test_a_rate_is_that_of_both_networks_at_every_level(tmp_path):
    path = tmp_path / "run"
    done = run("noisy_or", "--workdir", path, "--rate=0.01,0.2", *_CON8)
    assert done.returncode == 0, done.stderr
    settings = load(path).plan.settings
    assert list(settings) == ["rate=0.01", "rate=0.2"]
    for rate, setting in zip((0.01, 0.2), settings.values(), strict=True):
        assert setting[17] == setting[18] == (rate, rate, 1e-4)
    _check_refused(
        "noisy_or",
        tmp_path / "other",
        ["--rate=0.1", "--q_rate=0.1"],
        "expected --rate or --q_rate, got both",
    )


@pytest.mark.parametrize(
    ("binary", "args", "message"),
    [
        ("noisy_or", ["--data_seed=1,1"], "data seeds without repeats, got 1, 1"),
        ("noisy_or", ["--data_seed=a"], "whole numbers of at least 0"),
        ("noisy_or", ["--data_seed=0,1", "--data_dir=."], "one --data_seed"),
        ("neural_pcfg", ["--data_seed=0,1"], "expected one data seed here, got 0, 1"),
    ],
)
def test_data_seeds_that_make_no_sense_are_refused(tmp_path, binary, args, message):
    _check_refused(binary, tmp_path / "run", args, message)


def test_own_samples_of_numbers_are_learned(tmp_path):
    path = tmp_path / "mine.npy"
    np.save(path, np.random.default_rng(0).random((40, 5)))
    workdir = tmp_path / "run"
    done = run("sparse_coding", "--workdir", workdir, "--samples", path, *_SMALL)
    assert done.returncode == 0, done.stderr
    assert load(workdir).kept[18].params.dictionary.shape == (1, 2, 18, 5)


@pytest.mark.parametrize(
    ("binary", "text", "message"),
    [
        ("noisy_or", "0,1\n1,2\n", "mine: expected zeros and ones, got 2 in row 2"),
        ("noisy_or", "a,b\n0,1\n1,\n", "row 3, column 2"),
        ("noisy_or", "0,1\n1\n", "mine.csv: expected 2"),
        ("noisy_or", "0,1\n" * 15, "a batch of at most 13"),
        ("noisy_or", "0,1\n", "fewer held-out samples than the 1 there"),
        ("sparse_coding", "0,nan\n1,1\n", "row 1, column 2"),
    ],
)
def test_bad_own_samples_are_one_line_and_leave_nothing(
    tmp_path, binary, text, message
):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    _check_refused(binary, tmp_path / "run", ["--samples", path], message)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--truth=a.npz"], "expected --samples with --truth, got none"),
        (["--samples=a.csv", "--dataset=IMG"], "--samples or --dataset, got both"),
        (["--samples=nowhere.csv"], "nowhere.csv"),
        (["--samples={}", "--truth={}"], "a true network as .npz, .dat or a folder"),
        (["--samples={}", "--truth="], "priors.txt"),
    ],
)
def test_flags_of_own_samples_that_make_no_sense_are_refused(tmp_path, args, message):
    samples, _ = _own_samples(tmp_path)
    args = [arg.format(samples) for arg in args]
    _check_refused("noisy_or", tmp_path / "run", args, message)


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


def test_a_rate_of_zero_is_a_rate(tmp_path):
    flags = ["--levels=2", "--num_samples=60", "--theta_rate=0", "--dry_run"]
    done = run("noisy_or", "--workdir", tmp_path / "run", *flags)
    assert "theta_rate=0.0: theta_rate=0 q_rate=" in done.stdout, done
