"""A user's own samples, given to a binary: learned, shown by name, or refused."""

import numpy as np
import pytest
from sweep_process import check_refused, run

from lvm_jax.files import archive, table
from lvm_jax.training import load
from lvm_jax.training import workdir as layout

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


@pytest.mark.slow  # Trains twice.
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


@pytest.mark.slow  # Trains three times, and calibrates twice.
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
        check_refused("noisy_or", workdir, ["--calibrate=1", *flags], "--calibrate")


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
    check_refused(binary, tmp_path / "run", ["--samples", path], message)


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
    check_refused("noisy_or", tmp_path / "run", args, message)
