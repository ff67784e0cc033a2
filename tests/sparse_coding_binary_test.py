"""sparse_coding as a process: a small run, and flags that make no sense."""

import pytest
from sweep_process import SHAPE, check_refused, run

from lvm_jax.files import table
from lvm_jax.training import load
from lvm_jax.training import workdir as layout


def test_sparse_coding_writes_tables_and_figures(tmp_path):
    workdir = tmp_path / "run"
    done = run(
        "sparse_coding",
        *("--workdir", workdir, "--epochs", 3, "--gamma", 30, "--sparsity", 3),
        *SHAPE,
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
        (["--samples=a.csv", "--gamma=5"], "expected --samples or --gamma, got both"),
        (
            ["--dataset=gamma10", "--gamma=5", "--data_seed=0,1"],
            "expected --dataset or --gamma, got both",
        ),
        (["--precision", "float16"], "precision=float16"),
        (
            ["--learner=masked", "--hidden=0.5,1"],
            "a share below 1 of hidden variables, got 1",
        ),
    ],
)
def test_bad_sparse_coding_is_one_line_and_leaves_nothing(tmp_path, args, message):
    check_refused("sparse_coding", tmp_path / "run", args, message)


@pytest.mark.slow  # Trains a sweep.
def test_a_threshold_of_zero_is_a_threshold(tmp_path):
    flags = ["--levels=2", "--num_samples=60", "--threshold=0", "--dry_run"]
    done = run("sparse_coding", "--workdir", tmp_path / "run", *flags)
    assert "threshold=0.0: step_size=0.1 threshold=0 guard=0 at 2" in done.stdout, done
