"""Tables that claims read: what is in them is checked, and each run counts once."""

import math

import pytest
from sweep_process import run

from experiments.cli import claims
from experiments.cli.tables import Tables, existing
from experiments.noisy_or_claims import CLAIMS
from lvm_jax.files import table


def _rows(*seeds, level=8, **fields):
    fixed = {"dataset": "IMG", "level": level, "setting": "study"}
    measured = {"num_recovered": 8, "elbo": -12.5, "diverged": False}
    return [{**fixed, "seed": seed, **measured, **fields} for seed in seeds]


def test_tables_know_how_many_runs_of_a_level_they_have(tmp_path):
    rows = [*_rows(*range(8)), *_rows(1, 2, level=16)]
    table.write_rows(tmp_path / "IMG_a.csv", rows)
    table.write_rows(tmp_path / "IMG_b_0.csv", _rows(0, 1, 2))
    table.write_rows(tmp_path / "IMG_b_3.csv", _rows(3))
    table.write_rows(tmp_path / "c.csv", [{"level": 8, "num_runs": n} for n in (4, 16)])
    tables = Tables(tmp_path)
    assert tables.num_runs == [] and not tables.rows("none") and tables.names == []
    assert len(tables.rows("IMG_b")) == 4 and tables.names == ["IMG_b_0", "IMG_b_3"]
    assert tables.num_runs == [4]
    assert tables.rows("IMG_a") and tables.rows("c")
    assert tables.num_runs == [2, 4, 8, 16]
    assert tables.without("num_runs") == ["IMG_b", "IMG_a"]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("diverged", "no", "expected True or False as diverged in row 2"),
        ("diverged", 0, "expected True or False as diverged in row 2"),
        ("level", "eight", "expected a number of latents as level in row 2"),
        ("level", 8.5, "a number of latents as level in row 2 below the first, got"),
        ("level", "nan", "expected a number of latents as level in row 2"),
        ("level", 10**400, "expected a number of latents as level in row 2"),
        ("seed", -1, "expected a whole number from 0 to .* as seed in row 2"),
        ("seed", True, "expected a whole number from 0 to .* as seed in row 2"),
        ("num_recovered", "eight", "a number as num_recovered in row 2 below the fir"),
        ("num_recovered", "", "expected a number as num_recovered in row 2"),
        ("num_recovered", 2.5, "expected a whole number from 0 to .* as num_recovered"),
        ("num_recovered", "nan", "a whole number from 0 to .* as num_recovered"),
        ("elbo", "-inf", "expected a finite number as elbo in row 2"),
        ("elbo", 10**400, "expected a finite number as elbo in row 2"),
    ],
)
def test_a_value_that_its_column_cannot_have_is_refused(
    tmp_path, column, value, expected
):
    table.write_rows(tmp_path / "a.csv", [*_rows(0), *_rows(1, **{column: value})])
    with pytest.raises(ValueError, match=expected) as refused:
        Tables(tmp_path).rows("a")
    assert str(refused.value).startswith(f"{tmp_path / 'a.csv'}: ")


def test_what_a_spreadsheet_makes_of_a_table_is_read_as_what_it_was(tmp_path):
    table.write_rows(tmp_path / "a.csv", _rows(0, 1))
    before = Tables(tmp_path).rows("a")
    text = (tmp_path / "a.csv").read_text().replace("False", "FALSE")
    (tmp_path / "a.csv").write_text(text.replace("\n", "\r\n"))
    assert Tables(tmp_path).rows("a") == before


def test_a_run_that_diverged_has_no_measures(tmp_path):
    rows = [*_rows(0), *_rows(1, elbo=math.nan, num_recovered=0, diverged=True)]
    table.write_rows(tmp_path / "a.csv", rows)
    assert len(Tables(tmp_path).rows("a")) == 2


_LOOK = {"data_seed": 0, "level": 8, "num_runs": 4}
_MOMENT = {"level": 8, "limit": 0.5, "epoch": 1, "run": 3, "alone": 2}
_SETTLED = {"level": 8, "run": 3, "truth": 1, "epoch": 1, "is_recovered": True}
_LATENT = {**_LOOK, "latent": 1, "truth": 2}


@pytest.mark.parametrize(
    ("row", "other", "again"),
    [
        (_rows(1)[0], {"seed": 2}, {"num_recovered": 3}),
        (_LOOK, {"num_runs": 16}, {}),
        (_MOMENT, {"epoch": 2}, {"alone": 3}),
        (_SETTLED, {"truth": 2}, {"epoch": 3}),
        (_LATENT, {"latent": 2}, {"truth": 3}),
        ({"estimator": "nvil", "epoch": 1, "seed": 0}, {"epoch": 10}, {}),
    ],
)
def test_a_run_counts_once(tmp_path, row, other, again):
    table.write_rows(tmp_path / "a_0.csv", [row, row | other])
    assert len(Tables(tmp_path).rows("a")) == 2
    table.write_rows(tmp_path / "a_1.csv", [row | again])
    with pytest.raises(ValueError, match="each row once, got 2 of") as refused:
        Tables(tmp_path).rows("a")
    assert str(refused.value).startswith(f"{tmp_path}/a_0.csv and {tmp_path}/a_1.csv: ")


def test_a_table_of_another_data_set_is_refused(tmp_path):
    for name, dataset in (("IMG_nvil", "IMG"), ("IMG_rloo2", "UNIF")):
        table.write_rows(tmp_path / f"{name}.csv", _rows(0, dataset=dataset))
    tables = Tables(tmp_path)
    assert tables.rows("IMG_nvil")
    with pytest.raises(
        ValueError, match=r"IMG_rloo2.csv: expected runs on IMG, as oth"
    ):
        tables.rows("IMG_rloo2")
    for name in ("R0_main", "R1_main"):
        table.write_rows(tmp_path / f"{name}.csv", _rows(0, dataset="a grammar"))
    assert tables.rows("R0_main")
    with pytest.raises(
        ValueError, match=r"on R1, got runs on a grammar, as tables of R"
    ):
        tables.rows("R1_main")


def test_a_table_without_rows_is_refused(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"a\.csv: expected rows, got none"):
        Tables(tmp_path).rows("a")


@pytest.mark.parametrize(
    "column", ["num_recovered", "held_out_log_likelihood", "num_kept", "level"]
)
def test_a_column_that_is_not_there_is_named_with_its_table(tmp_path, column):
    measured = {"num_kept": 8, "num_recovered_after_filter": 8, "num_discarded": 0}
    measured["held_out_log_likelihood"] = -12.5
    for dataset in ("IMG", "UNIF"):
        rows = [
            row
            for level in (8, 16)
            for row in _rows(0, 1, level=level, dataset=dataset, **measured)
        ]
        if dataset == "UNIF":
            rows = [{of: row[of] for of in row if of != column} for row in rows[:1]]
        table.write_rows(tmp_path / f"{dataset}_main.csv", rows)
    texts = [
        text
        for section in CLAIMS.sections.values()
        for text in claims.blocks(section, Tables(tmp_path))
        if isinstance(text, str) and "column" in text
    ]
    expected = f"Not there: a column {column!r} of UNIF_main in {tmp_path.name}/."
    assert texts and set(texts) == {expected}


def test_an_error_that_no_table_explains_is_none_of_theirs(tmp_path):
    table.write_rows(tmp_path / "a.csv", _rows(0))

    def section(tables):
        yield str(tables.rows("a")[0].keys())
        yield {}["level"]

    with pytest.raises(KeyError, match="level"):
        claims.blocks(section, Tables(tmp_path))


def test_a_folder_of_tables_that_is_not_there_is_refused(tmp_path):
    assert existing(str(tmp_path)) == tmp_path
    for folder in (str(tmp_path / "none"), ""):
        with pytest.raises(ValueError, match=r"a folder of tables as --tables, got "):
            existing(folder)


@pytest.mark.slow  # Starts processes.
def test_a_binary_refuses_a_bad_table_in_one_line(tmp_path):
    (tmp_path / "noisy_or").mkdir()
    path = tmp_path / "noisy_or" / "IMG_main.csv"
    table.write_rows(path, _rows(0, num_recovered="eight"))
    for binary, folder in (("noisy_or_claims", path.parent), ("study", tmp_path)):
        refused = run(binary, f"--tables={folder}")
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert f"{path}: expected a number as num_recovered" in line
    refused = run("study", f"--tables={path.parent}")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "expected noisy_or, dynamics, recurring, " in line
