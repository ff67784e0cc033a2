"""The claims about noisy-OR networks: what tables of every kind decide."""

import numpy as np
import pytest
from sweep_process import run

from experiments import noisy_or_claims as claims
from experiments.cli.levels import Rule, Truths, share_verdict, undecided_of
from experiments.cli.tables import Tables
from experiments.cli.verdicts import Table, Verdict, at, direction
from experiments.study import kind
from lvm_jax import report
from lvm_jax.files import table


def _rows(recovered, dataset="IMG", **fields):
    """Rows of levels, {level: truths recovered by each seed}, all exact."""
    return [
        {
            "dataset": dataset,
            "level": level,
            "setting": "study",
            "theta_rate": 0.1,
            "seed": seed,
            "objective": -12.0 + seed / 100,
            "num_discarded": level - number,
            "num_kept": number,
            "num_recovered": number,
            "num_recovered_after_filter": number,
            "held_out_log_likelihood": -12.0 + number / 10 + seed / 1000,
            "held_out_log_likelihood_is_bound": level > 20,
            "diverged": False,
            **fields,
        }
        for level, numbers in recovered.items()
        for seed, number in enumerate(numbers)
    ]


_FEW = (2, 3, 4, 3, 2, 4, 3, 2)
_SAME = (3, 2, 4, 3, 2, 3, 4, 2)
_MANY = (8, 7, 8, 8, 8, 6, 8, 7)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((_FEW, _MANY, _MANY), "holds"),
        ((_FEW, _MANY, _SAME), "undecided"),
        ((_MANY, _MANY, _FEW), "refuted"),
    ],
)
def test_larger_levels_have_to_recover_more(tmp_path, levels, expected):
    rows = _rows(dict(zip((8, 16, 32), levels, strict=True)))
    table.write_rows(tmp_path / "IMG_main.csv", rows)
    of_eight = Truths(8)
    tables = of_eight.read(Tables(tmp_path), Rule("main", ("IMG",), 32))
    _, truths, full = of_eight.larger(tables)
    assert truths == ("truths recovered of 8 (family of 4)", {"IMG": expected})
    assert full.claim == "full recovery, % (family of 4)"


def test_a_cell_may_be_in_parts(tmp_path):
    for first in (0, 8):
        rows = [row | {"seed": row["seed"] + first} for row in _rows({8: _FEW})]
        table.write_rows(tmp_path / f"IMG_main_{first}.csv", rows)
    table.write_rows(tmp_path / "IMG-FLIP_main.csv", _rows({8: _MANY}))
    tables = Truths(8).read(Tables(tmp_path), Rule("main", ("IMG", "PLNT"), 32))
    assert [row["seed"] for row in tables["IMG"]] == list(range(16))
    assert list(tables) == ["IMG"]
    lack = Rule("main", ("IMG", "PLNT"), 32).lacking(tables)
    assert list(lack.values()) == ["IMG (seeds 16 to 31)", "PLNT"]
    assert not Rule("main", ("IMG",), 16).lacking(tables)
    more = Rule("main", ("IMG",), 16, levels=(8, 16), num_data_seeds=3)
    assert more.lacking(tables) == {"IMG": "IMG (level 16, data seeds 1 to 2)"}
    some = [*tables["IMG"], *(row | {"level": 16} for row in tables["IMG"][:4])]
    found = Rule("main", ("IMG",), 16, (8, 16)).lacking({"IMG": some})
    assert found == {"IMG": "IMG (seeds 4 to 15)"}
    of_each = Rule("main", ("IMG", "PLNT"), 1, {"IMG": (8, 9), "PLNT": (8,)})
    assert of_each.lacking(tables) == {"IMG": "IMG (level 9)", "PLNT": "PLNT"}
    (setting,) = {row["setting"] for row in tables["IMG"]}
    both = Rule("main", ("IMG",), 16, settings=(setting, "other"))
    assert both.lacking(tables) == {"IMG": "IMG (setting other)"}


def test_a_claim_of_two_cells_waits_for_the_second(tmp_path):
    table.write_rows(tmp_path / "IMG_main.csv", _rows({8: _FEW}))
    seeds = len(_FEW)
    section = Truths(8).section(
        lambda main, large: [Verdict("made", dict.fromkeys(main, "holds"))],
        Rule("main", ("IMG",), seeds),
        Rule("large", ("IMG",), seeds),
    )
    lacking, decided = section(Tables(tmp_path))
    assert lacking == "Not there: large of IMG."
    assert decided.says["IMG"].startswith("not decided: runs are lacking, so far")


def test_the_filter_is_judged_by_all_full_runs_of_a_data_set():
    rows = report.add_shares(_rows({8: _FEW, 16: (8,) * 8, 32: (8,) * 8}), 8)
    inexact = [row | {"num_kept": 9, "exact_after_filter": False} for row in rows[8:]]
    blocks = list(Truths(8).surplus({"IMG": rows, "CON8": inexact, "PLNT": rows[:8]}))
    table_, verdict = blocks
    assert verdict.says == {
        "IMG": "holds",  # By 16 runs, of which 8 do not suffice.
        "CON8": "refuted",
        "PLNT": "not decided: no full run",
    }
    cells = {tuple(line[:2]): line[-2] for line in table_.lines}
    assert cells["IMG", "16"] == "8 of 8" and cells["IMG", "all of these"] == "16 of 16"
    assert isinstance(table_, Table) and ("IMG", "8") not in cells


def test_what_lacks_runs_is_decided_for_the_time_being():
    says = {"IMG": "holds", "IMG at 16": "refuted", "PLNT": "holds", "all": "holds"}
    block = Verdict("made", says)
    assert undecided_of(block, (), ("IMG", "PLNT")) == block
    found = undecided_of(block, {"IMG"}, ("IMG", "PLNT")).says
    provisional = "not decided: runs are lacking, so far"
    assert found == {
        "IMG": f"{provisional} holds",
        "IMG at 16": f"{provisional} refuted",
        "PLNT": "holds",
        "all": f"{provisional} holds",
    }
    assert undecided_of(block._replace(says=found), {"IMG"}, ("IMG", "PLNT")).says == (
        found
    )


def test_p_values_count_all_comparisons_of_a_claim():
    alone = report.Comparison(1.0, 0.1, 1.9, 0.03, "Welch")
    family = {name: alone._replace(p_value=0.9) for name in range(9)}
    assert direction(report.adjust({"one": alone})["one"]) == "more"
    decided = report.adjust({"one": alone, **family})["one"]
    assert decided.p_value == pytest.approx(0.3)
    assert direction(decided) == "undecided"
    less = report.adjust({"one": alone._replace(estimate=-1.0)})["one"]
    assert direction(less) == "less"


def test_harm_is_little_where_the_interval_stays_above_a_truth():
    main, large = (
        {"IMG": report.add_shares(_rows(levels), 8)}
        for levels in ({8: _FEW, 16: _MANY, 32: _FEW}, {64: _MANY, 128: _FEW})
    )
    table_, verdict = claims.harm(main, large)
    assert [row[5] for row in table_.lines] == ["16", "16"]
    assert verdict.says == {"IMG": "refuted"}  # By 128, and not by 64.
    (_, verdict) = claims.harm(main, {"IMG": at(large["IMG"], level=64)})
    assert verdict.says == {"IMG": "holds"}


def test_a_bound_does_not_decide_that_larger_is_worse():
    main = {"IMG": _rows({8: _MANY, 16: _MANY, 32: _FEW})}
    large = {"IMG": _rows({64: (8,) * 8, 128: _MANY})}
    (_, lines), verdict, bounds = claims.likelihood(main, large)
    of_levels = {line[1]: line for line in lines}
    assert of_levels["32"][5] == "not decided by a bound"
    assert of_levels["16"][5] == verdict.says["IMG"] == "undecided"
    assert "at least" in lines[2][3] and "at least" not in lines[1][3]
    better = sum(line[5] == "better" for line in lines)
    assert bounds.says == {"IMG": f"{better} of 3"}


def test_log_likelihood_follows_where_it_moves_as_truths_do():
    follows = [
        next(
            block.says["IMG"]
            for block in claims.likelihood({"IMG": _rows({8: few, 16: many})}, {})
            if isinstance(block, Verdict)
        )
        for few, many in ((_FEW, _MANY), (_MANY, _FEW), (_FEW, _SAME))
    ]
    assert follows == ["holds", "holds", "undecided"]
    rows = [
        row | {"held_out_log_likelihood": -10 - row["num_recovered"]}
        for row in _rows({8: _FEW, 16: _MANY})
    ]
    *_, verdict = claims.likelihood({"IMG": rows}, {})
    assert verdict.says == {"IMG": "refuted"}


def test_the_best_rate_of_a_level_is_chosen_by_the_objective_alone():
    slow = _rows({8: _FEW}, theta_rate=0.01)
    fast = [row | {"objective": -13.0} for row in _rows({8: _MANY}, theta_rate=0.1)]
    assert {row["theta_rate"] for row in claims.best_rate([*fast, *slow])} == {0.01}
    diverged = [row | {"objective": np.nan} for row in slow]
    for rows in ([*fast, *diverged], [*diverged, *fast]):
        assert {row["theta_rate"] for row in claims.best_rate(rows)} == {0.1}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((40, 40), "holds"), ((10, 40), "refuted"), ((34, 40), "undecided")],
)
def test_the_filter_is_judged_by_the_share_of_exact_models(counts, expected):
    share = report.share_interval(*counts)
    assert share_verdict(share) == expected
    assert share_verdict(None) == "not decided: no full run"


def test_common_rates_are_counted_and_own_ones_decide():
    slow = _rows({8: _MANY, 16: _SAME, 32: _FEW}, theta_rate=0.01)
    fast = _rows({8: _FEW, 16: _MANY, 32: _MANY}, theta_rate=0.1)
    fast = [row | {"objective": row["objective"] + 1} for row in fast]
    blocks = claims.rates({"IMG": [*slow, *fast]})
    own, common = (block for block in blocks if isinstance(block, Verdict))
    assert own.says == {"IMG": "holds"}
    assert common.says == {"IMG": "at 1 of 2"} and kind([common]) == "measured"


def test_all_claims_are_printed_from_tables(tmp_path):
    generator = np.random.default_rng(0)

    def write(name, levels, **fields):
        numbers = {level: generator.integers(4, 9, 6) for level in levels}
        fields["dataset"] = name.split("_")[0]
        rows = _rows({k: of.tolist() for k, of in numbers.items()}, **fields)
        table.write_rows(tmp_path / f"{name}.csv", rows)
        return rows

    for dataset in ("IMG", "CON8"):
        write(f"{dataset}_main", (8, 16, 32))
        write(f"{dataset}_large", (64, 128))
    write("IMG-FLIP_misspecified", (8, 9, 10, 16))
    rows = [
        row
        for rate in (0.01, 0.1)
        for row in write("IMG_rates", (8, 16, 32), setting=rate, theta_rate=rate)
    ]
    table.write_rows(tmp_path / "IMG_rates.csv", rows)
    rows = [
        row
        for seed in range(4)
        for row in write("CON8_truths", (8, 16, 32), data_seed=seed)
    ]
    table.write_rows(tmp_path / "CON8_truths.csv", rows)
    done = run(
        "noisy_or_claims", f"--tables={tmp_path}", f"--figures={tmp_path / 'figures'}"
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.count("###") == 10 and "family of 8)" in text
    part = "(seeds 6 to 31)"
    assert f"main of IMG {part}, PLNT, UNIF, CON8 {part}, CON24." in text
    assert "Not there: em of IMG, PLNT, UNIF, CON8, CON24." in text
    assert (tmp_path / "figures" / "noisy_or_five.png").exists()
