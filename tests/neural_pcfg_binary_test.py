"""neural_pcfg as a process: a small run, and flags that make no sense."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from sweep_process import ROOT, check_refused, run

from lvm_jax import pcfg
from lvm_jax.files import archive, table
from lvm_jax.training import load
from lvm_jax.training import workdir as layout


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
        (["--mode=faithful", "--batch_size=4"], "--mode faithful or --batch_size, got"),
        (["--sharpness=2"], "--grammar random with --sharpness, got --grammar english"),
        (["--corpus=b", "--radius=0.5"], "random with --radius, got --corpus"),
        (
            ["--grammar=random", "--true_epochs=2"],
            "expected --corpus with --true_epochs, got --grammar random",
        ),
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
        cwd=ROOT,
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
