"""Results as arrays, rows and files; archives come back as they were written."""

import json
import math
from typing import NamedTuple

import jax
import numpy as np
import pytest

from lvm_jax.files import archive, table
from lvm_jax.sweep import Plan
from lvm_jax.sweep.plan import Group, RunName
from lvm_jax.sweep.run import Record, Run
from lvm_jax.training import results
from lvm_jax.training.results import Part


class _Rate(NamedTuple):
    rate: float


class _Params(NamedTuple):
    weight: np.ndarray


class _State(NamedTuple):
    params: _Params


def test_arrays_come_back_by_path(tmp_path):
    tree = {8: {"prior": np.arange(3.0)}, 16: (np.eye(2),)}
    archive.write(tmp_path / "a.npz", tree)
    back = archive.read(tmp_path / "a.npz")
    assert set(back) == {"8/prior", "16/0"}
    np.testing.assert_array_equal(back["16/0"], np.eye(2))


def test_a_tree_is_rebuilt_from_what_is_said_of_it():
    tree = {"a": _Params(np.arange(3)), "b": (np.eye(2), None), "c": {}}
    description = archive.structure(tree)
    back = archive.rebuild(description, archive.flatten(tree))
    assert type(back["a"]) is _Params and back["b"][1] is None and back["c"] == {}
    np.testing.assert_array_equal(back["b"][0], np.eye(2))
    with pytest.raises(ValueError, match="an array a/weight, got none"):
        archive.rebuild(description, {})


@pytest.mark.parametrize("kind", ["os:system", "nowhere:Params", "builtins:tuple", ""])
def test_a_record_of_an_unknown_type_has_its_fields(kind):
    description = {"record": kind, "fields": {"weight": "array"}}
    back = archive.rebuild(description, {"weight": np.arange(3)})
    assert back._fields == ("weight",) and back.weight.tolist() == [0, 1, 2]


_EPOCHS = 4


def _part(runs, snapshots):
    """Runs of a group: what they measure tells which run it is, and when."""
    number = np.array([100 * run.level + run.seed for run in runs], float)
    number += [{"a": 0.25, "b": 0.5}[run.setting] for run in runs]
    values = number[:, None] + 1000 * np.arange(1, 2 * _EPOCHS + 1)
    last, best = values[:, -1], values[:, 2 * snapshots - 1]
    diverged = number == 803.5
    run = Run(
        key=np.zeros((len(runs), 2), np.uint32),
        live=np.ones((len(runs), 9)),
        hyperparams=_Rate(number),
        state=_State(_Params(np.stack([last] * 3, axis=1))),
        objective=np.where(number % 2 < 1, -last, last),
        kept=_Params(np.stack([best] * 3, axis=1)),
        kept_objective=np.where(diverged, -np.inf, -best),
        kept_epoch=np.where(diverged, 0, snapshots),
        diverged=diverged,
    )
    record = Record(
        train={"elbo": values},
        held_out={"elbo": values - 1},
        recovery={"num_recovered": values.astype(int)},
        trace={"place": values[..., None] + np.arange(5)},
        diverged=np.broadcast_to(diverged[:, None], values.shape),
    )
    return Part((Group(9, tuple(runs)),), (run,), (record,))


@pytest.fixture
def trained():
    """Two waves, out of order, of two levels, two settings and three seeds."""
    plan = Plan(
        levels=(9, 8),
        seeds=(3, 4, 5),
        settings={"a": _Rate(0.1), "b": {8: _Rate(0.2), 9: _Rate(0.3)}},
        records_per_epoch=2,
    )
    runs = [
        RunName(level, setting, seed)
        for seed in (5, 3, 4)
        for setting in "ba"
        for level in (8, 9)
    ]
    parts = [_part(runs[:5], 2), _part(runs[5:], 2)]
    return results.assemble("IMG", plan, _EPOCHS, parts, 8)


def test_every_run_is_in_its_place(trained):
    assert trained.history["train_elbo"].shape == (2, 2, 3, 8)
    np.testing.assert_array_equal(trained.epochs, np.arange(1, 9) / 2)
    for level, of_level in zip((9, 8), trained.history["train_elbo"], strict=True):
        for fraction, of_setting in zip((0.25, 0.5), of_level, strict=True):
            for seed, values in zip((3, 4, 5), of_setting, strict=True):
                expected = 100 * level + seed + fraction + 1000 * np.arange(1, 9)
                np.testing.assert_array_equal(values, expected)
    for level, traces in trained.traces.items():
        assert traces["place"].shape == (2, 3, 8, 5)
        expected = 100 * level + 4 + 0.25 + 1000 + np.arange(5)
        np.testing.assert_array_equal(traces["place"][0, 1, 0], expected)
    assert list(trained.kept) == list(trained.traces) == [9, 8]
    assert trained.kept[8].params.weight.shape == (2, 3, 3)


def test_rows_name_run_setting_and_epoch(trained):
    rows = list(trained.rows())
    assert len(rows) == 2 * 2 * 3 * 8
    assert rows[1] == {
        "dataset": "IMG",
        "level": "9",
        "setting": "a",
        "rate": 0.1,
        "seed": 3,
        "epoch": 1.0,
        "train_elbo": 2903.25,
        "held_out_elbo": 2902.25,
        "num_recovered": 2903,
        "diverged": False,
    }
    assert {(row["level"], row["setting"], row["rate"]) for row in rows} == {
        ("9", "a", 0.1),
        ("9", "b", 0.3),
        ("8", "a", 0.1),
        ("8", "b", 0.2),
    }


def test_a_kept_row_is_the_history_row_at_the_kept_epoch(trained):
    history = {
        tuple(row[name] for name in ("level", "setting", "seed", "epoch")): row
        for row in trained.rows()
    }
    extra = np.arange(12.0).reshape(2, 2, 3)
    rows = trained.kept_rows(extra=extra)
    assert [row["extra"] for row in rows] == list(range(12))
    epochs = set()
    for row in rows:
        row.pop("extra")
        epochs.add(row["epoch"])
        place = tuple(row[name] for name in ("level", "setting", "seed", "epoch"))
        if not row["diverged"]:
            objective = row.pop("objective")
            assert row == history[place]
            of_last = row["epoch"] == _EPOCHS
            assert objective == row["train_elbo"] * (1 if of_last else -1)
    assert epochs == {0, 2, 4}


def test_a_kept_model_is_the_first_run_s(trained):
    params, live = trained.kept_model(8)
    of_last_record = 803.25 + 8000  # level 8, seed 3, setting a
    assert params.weight.tolist() == [of_last_record] * 3 and live.shape == (9,)


def test_a_run_that_diverged_has_kept_nothing_and_recovered_nothing(trained):
    (row,) = [row for row in trained.kept_rows() if row["diverged"]]
    assert (row["level"], row["setting"], row["epoch"]) == ("8", "b", 0)
    assert row["num_recovered"] == 0 and math.isnan(row["held_out_elbo"])


def test_results_come_back_as_they_were_saved(tmp_path, trained):
    results.save(trained, tmp_path)
    back = results.load(tmp_path)
    assert back.plan == Plan(
        levels=(9, 8),
        seeds=(3, 4, 5),
        settings={
            "a": {9: _Rate(0.1), 8: _Rate(0.1)},
            "b": {9: _Rate(0.3), 8: _Rate(0.2)},
        },
        records_per_epoch=2,
    )
    assert (back.name, back.num_truths) == (trained.name, 8)
    assert list(back.history) == list(trained.history)
    assert type(back.kept[8].params) is _Params
    for a, b in zip(
        jax.tree.leaves((back.history, back.kept, back.epochs)),
        jax.tree.leaves((trained.history, trained.kept, trained.epochs)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert len(table.read_rows(tmp_path / "history.csv")) == 96
    kept = table.read_rows(tmp_path / "kept.csv")
    assert len(kept) == 12 and kept[0]["rate"] == 0.1


def test_results_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="training has not ended"):
        results.load(tmp_path)


def _refusal(path) -> str:
    """What results are refused for."""
    with pytest.raises(ValueError) as error:
        results.load(path)
    start = f"expected saved results in {path / 'results.npz'}, got "
    assert str(error.value).startswith(start) and str(error.value).isprintable()
    return str(error.value).removeprefix(start)


def _changed(tree, places, value):
    """The tree with another value in a place; without the place, if it is _ABSENT."""
    if not places:
        return value
    first, *rest = places
    if value is _ABSENT and not rest:
        return {name: part for name, part in tree.items() if name != first}
    return {**tree, first: _changed(tree[first], rest, value)}


_ABSENT = object()
_DEEP = json.loads('{"tuple":[' * 400 + "null" + "]}" * 400)
_OTHERS = [_ABSENT, None, True, -1, 1.5, 10**400, "x", [], {}, [[]], ["a"], _DEEP]
_OF_RECORDS = [{"record": 5, "fields": {}}, {"record": "a:b", "fields": {"1": "array"}}]


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ((), _OTHERS[1:]),
        (("name",), [_ABSENT, None, 5]),
        (("num_truths",), [_ABSENT, True, -1, 1.5, "x", []]),
        (("history",), [*_OTHERS[:5], "x", {}, [["train_elbo"]], ["train_elbo"]]),
        (("hyperparams",), [*_OTHERS, *_OF_RECORDS, "array"]),
        (("kept",), [*_OTHERS, *_OF_RECORDS, {"dict": [1]}, {"tuple": 5}]),
        (("kept", "dict", "8"), [*_OTHERS, *_OF_RECORDS]),
        (("kept", "dict", "8", "fields"), [*_OTHERS, {"params": "array"}]),
        (("kept", "dict", "8", "fields", "epoch"), [*_OTHERS, {"dict": {}}]),
        (("plan",), _OTHERS),
        (("plan", "levels"), [*_OTHERS, [8], [8, 9.0], [8, [9, [9]]], [9, 8, 7]]),
        (("plan", "seeds"), [*_OTHERS, [0, 1], [3, 4, 5.0]]),
        (("plan", "settings"), [*_OTHERS, {"a": {"9": 1, "8": 2}}]),
        (("plan", "settings", "a", "9"), [*_OTHERS, {"rate": "x"}, {"rate": 10**400}]),
        (("plan", "batch_size"), [-1, 1.5, "x", []]),
        (("plan", "records_per_epoch"), [*_OTHERS, 3, 10**9]),
        (("plan", "precision"), [None, -1, "x", [], {}]),
    ],
)
def test_what_is_said_of_results_is_not_believed(tmp_path, trained, place, values):
    results.save(trained, tmp_path)
    arrays = archive.read(tmp_path / "results.npz")
    about = json.loads(arrays["about"].tobytes())
    for value in values:
        text = json.dumps(_changed(about, place, value)).encode()
        arrays["about"] = np.frombuffer(text, np.uint8)
        archive.write(tmp_path / "results.npz", arrays)
        _refusal(tmp_path)


@pytest.mark.parametrize("text", [b"", b"[", b"[" * 100_000, b"\xff\xfe", b"9" * 5000])
def test_what_is_no_json_is_refused(tmp_path, trained, text):
    results.save(trained, tmp_path)
    arrays = archive.read(tmp_path / "results.npz")
    arrays["about"] = np.frombuffer(text, np.uint8)
    archive.write(tmp_path / "results.npz", arrays)
    _refusal(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "about",
        "epochs",
        "history/train_elbo",
        "history/diverged",
        "kept/8/params/weight",
        "kept/8/live",
        "kept/8/objective",
        "kept/8/epoch",
        "kept/8/diverged",
    ],
)
def test_arrays_of_results_are_what_is_said_of_them(tmp_path, trained, name):
    results.save(trained, tmp_path)
    arrays = archive.read(tmp_path / "results.npz")
    whole = arrays[name]
    others = [None, np.zeros(0), np.float64(1), np.array(10**12), whole[:-1]]
    others += [np.full(whole.shape, "x"), np.zeros((2, 2))]
    if name in ("kept/8/epoch", "epochs"):
        others += [whole - 1, whole + 9]
    for other in others:
        kept = {key: value for key, value in arrays.items() if key != name}
        archive.write(
            tmp_path / "results.npz", kept if other is None else {**kept, name: other}
        )
        _refusal(tmp_path)


def test_another_archive_is_refused(tmp_path):
    for arrays in ({}, {"prior": np.zeros(3)}):
        archive.write(tmp_path / "results.npz", arrays)
        assert _refusal(tmp_path) == "KeyError('about')"
