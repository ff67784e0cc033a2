"""Files come back as they were written, whole or not at all."""

import jax
import numpy as np
import pytest

from lvm_jax import archive, results
from lvm_jax.plan import Group, SweepConfig
from lvm_jax.run import Record


def test_rows_come_back_with_their_types(tmp_path):
    rows = [
        {"name": "IMG", "level": 8, "elbo": -12.25, "diverged": False},
        {"name": "IMG", "level": "10x10", "elbo": float("nan"), "diverged": True},
    ]
    results.write_rows(tmp_path / "rows.csv", rows)
    back = results.read_rows(tmp_path / "rows.csv")
    assert back[0] == rows[0]
    assert np.isnan(back[1].pop("elbo"))
    assert back[1] == {"name": "IMG", "level": "10x10", "diverged": True}


def test_arrays_come_back_by_path(tmp_path):
    tree = {8: {"prior": np.arange(3.0)}, 16: (np.eye(2),)}
    archive.write(tmp_path / "a.npz", tree)
    back = archive.read(tmp_path / "a.npz")
    assert set(back) == {"8/prior", "16/0"}
    np.testing.assert_array_equal(back["16/0"], np.eye(2))


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        archive.read(tmp_path / "a.npz")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.csv"
    results.write_rows(path, [{"a": 1}])
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        results.write_rows(path, [{"a": 2}, {"b": 3}])
    assert results.read_rows(path) == [{"a": 1}]
    assert list(tmp_path.iterdir()) == [path]


def test_history_has_a_row_for_each_run_and_epoch():
    group = Group(width=9, levels=(8, 8, 9, 9), seeds=(3, 4, 3, 4))
    values = np.arange(8.0).reshape(4, 2)
    record = Record(
        train={"elbo": values},
        held_out={"elbo": values - 1},
        recovery={"num_recovered": values.astype(int)},
        diverged=values > 6,
    )
    later = Group(width=9, levels=(8, 9), seeds=(5, 5))
    other = jax.tree.map(lambda leaf: leaf[2:], record)
    config = SweepConfig(levels=(9, 8), seeds=(3, 4, 5))
    histories = [([later], [other]), ([group], [record])]
    rows = list(results.history_rows("IMG", config, histories))
    assert [(row["level"], row["seed"], row["epoch"]) for row in rows] == [
        (level, seed, epoch)
        for level in ("9", "8")
        for seed in (3, 4, 5)
        for epoch in (1, 2)
    ]
    assert rows[1] == {
        "dataset": "IMG",
        "level": "9",
        "seed": 3,
        "epoch": 2,
        "train_elbo": 5.0,
        "held_out_elbo": 4.0,
        "num_recovered": 5,
        "diverged": False,
    }
    assert rows[5]["train_elbo"] == 7.0 and rows[5]["diverged"]
