"""Tables that claims read: what is in them is checked, and each run counts once."""

import pytest
from sweep_process import run

from experiments.cli import claims
from experiments.cli.levels import Rule, Truths
from experiments.cli.tables import Tables, existing
from experiments.noisy_or_claims import CLAIMS
from lvm_jax.files import table


def _rows(*seeds, level=8, **fields):
    fixed = {"dataset": "IMG", "level": level, "setting": "study"}
    measured = {"num_recovered": 8, "diverged": False}
    return [{**fixed, "seed": seed, **measured, **fields} for seed in seeds]


def test_tables_know_how_many_runs_of_a_level_they_have(tmp_path):
    table.write_rows(tmp_path / "a.csv", [*_rows(*range(8)), *_rows(1, 2, level=16)])
    table.write_rows(tmp_path / "b_0.csv", _rows(0, 1, 2))
    table.write_rows(tmp_path / "b_3.csv", _rows(3))
    table.write_rows(tmp_path / "c.csv", [{"level": 8, "num_runs": n} for n in (4, 16)])
    tables = Tables(tmp_path)
    assert tables.num_runs == [] and not tables.rows("none") and tables.names == []
    assert len(tables.rows("b")) == 4 and tables.names == ["b_0", "b_3"]
    assert tables.num_runs == [4]
    assert tables.rows("a") and tables.rows("c") and tables.num_runs == [2, 4, 8, 16]
    assert tables.without("num_runs") == ["b", "a"]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("diverged", "no", "expected True or False as diverged in row 2"),
        ("diverged", 0, "expected True or False as diverged in row 2"),
        ("level", "eight", "expected a number of latents as level in row 2"),
        ("level", 8.5, "a number of latents as level in row 2 below the first, got"),
        ("level", "nan", "expected a number of latents as level in row 2"),
        ("level", 10**400, "expected a number of latents as level in row 2"),
        ("seed", -1, "expected a whole number as seed in row 2"),
        ("seed", True, "expected a whole number as seed in row 2"),
        ("num_recovered", "eight", "a number as num_recovered in row 2 below the fir"),
        ("num_recovered", "", "expected a number as num_recovered in row 2"),
        ("num_recovered", 10**400, "expected a number of floating point as num_rec"),
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


def test_a_run_counts_once(tmp_path):
    table.write_rows(tmp_path / "a.csv", _rows(0, 1))
    table.write_rows(tmp_path / "a_1.csv", _rows(1, num_recovered=3))
    with pytest.raises(ValueError, match="one row of each run, got 2 of") as refused:
        Tables(tmp_path).rows("a")
    for part in ("a.csv and ", "a_1.csv: ", "level 8, setting study, seed 1"):
        assert part in str(refused.value)
    looks = [{"data_seed": 0, "level": 8, "num_runs": n} for n in (4, 16, 4)]
    table.write_rows(tmp_path / "b.csv", looks)
    with pytest.raises(ValueError, match="got 2 of data_seed 0, level 8, num_runs 4"):
        Tables(tmp_path).rows("b")
    latents = [{**looks[0], "latent": number} for number in (1, 2)]
    table.write_rows(tmp_path / "c.csv", latents)
    assert len(Tables(tmp_path).rows("c")) == 2


def test_a_table_of_another_data_set_is_refused(tmp_path):
    table.write_rows(tmp_path / "PLNT_main.csv", _rows(0))
    with pytest.raises(ValueError, match=r"of PLNT in PLNT_main\.csv, got IMG"):
        Truths(8).read(Tables(tmp_path), Rule("main", ("IMG", "PLNT"), 1))


def test_a_column_that_is_not_there_is_named_with_its_table(tmp_path):
    table.write_rows(tmp_path / "IMG_main.csv", _rows(0, 1))
    section, tables = CLAIMS.sections["1. Larger recovers more"], Tables(tmp_path)
    (text,) = claims.blocks(section, tables)
    assert text.startswith("Not there: a column 'num_kept' of IMG_main in test_a_col")
    assert claims.figures(CLAIMS, tables) == {}


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
