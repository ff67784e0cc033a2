"""The report that any results have: a table, differences, figures in a folder."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from lvm_jax.report import by_epoch, by_level, style
from lvm_jax.report.comparison import format_differences
from lvm_jax.report.intervals import Limits
from lvm_jax.report.rows import Row, known_limits
from lvm_jax.report.summary import Summary, format_table, summarise

_HELD_OUT = "held_out_"


def write(
    results: Any,
    folder: pathlib.Path | str,
    *,
    measures: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    limits: Mapping[str, Limits] | None = None,
    truth: Mapping[str, float] | None = None,
    figures: Mapping[str, Callable[[], Figure]] | None = None,
    digits: int = 2,
) -> str:
    """Draws the figures of results into a folder and makes their table.

    With a truth, these are full_recovery.png, recovered.png and
    recovered_by_epoch.png. For each header, named without its held_out_, there is a
    figure by level, and one by epoch of a column of the history.

    Args:
      results: of training; its fields name, plan, epochs, history and num_truths, and
        its rows of kept models are what is read.
      folder: of the figures, made if need be.
      measures: {column: array [level, setting, seed]}, further columns of the rows.
      headers: {column: heading and label}, what is shown, of rows or history; every
        held-out column of the history, if None.
      limits: {column: the least and the largest value possible}, within which
        intervals stay, such as 0 and 1 of an F1; of truths recovered they are known.
      truth: {column: value of the true model}, drawn where the column is.
      figures: {file name: how it is drawn}, further ones.
      digits: decimals of what is shown.

    Returns:
      The table and below it what its intervals are over, and the differences between
      levels and between settings, with p values that are adjusted within a column.

    Raises:
      ValueError: if headers are of no column or share a file, or values leave their
        limits; and, in one line with
        the names, if figures could not be drawn or written. All others are then there,
        and the text is a note of the error.
    """
    if headers is None:
        headers = _held_out_headers(results.history)
    rows = list(results.kept_rows(**(measures or {})))
    known = known_limits(results.num_truths, limits)
    summaries = summarise(rows, results.num_truths, list(headers), known)
    text = _format(results, rows, summaries, headers, known, digits)
    drawings = _drawings(results, rows, summaries, headers, known, truth or {})
    drawings.update(figures or {})
    failures = _save_all(drawings, pathlib.Path(folder))
    if failures:
        error = ValueError(f"expected all figures in {folder}, failed: {failures}")
        error.add_note(text)
        raise error
    return text


def _held_out_headers(history: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: name.replace("_", " ") for name in history if name.startswith(_HELD_OUT)
    }


def _format(
    results: Any,
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    headers: Mapping[str, str],
    limits: Mapping[str, Limits],
    digits: int,
) -> str:
    num_truths = results.num_truths
    has_kinds = any(isinstance(level, tuple) for level in results.plan.levels)
    notes = ["recovered, full and exact are of the last kind of latents"]
    return "\n".join(
        [
            *(notes if has_kinds and num_truths is not None else []),
            format_table(summaries, num_truths, headers, digits=digits),
            *format_differences(rows, num_truths, headers, limits, digits=digits),
        ]
    )


def _drawings(
    results: Any,
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    headers: Mapping[str, str],
    limits: Mapping[str, Limits],
    truth: Mapping[str, float],
) -> dict[str, Callable[[], Figure]]:
    """How each figure is drawn, by the name of its file.

    Raises:
      ValueError: if two figures have one name.
    """
    name, num_truths = results.name, results.num_truths
    draw = functools.partial
    drawings = []
    if num_truths is not None:
        drawings += [
            ("full_recovery", draw(by_level.plot_full_recovery, summaries, name)),
            ("recovered", draw(by_level.plot_recovered, summaries, num_truths, name)),
            (
                "recovered_by_epoch",
                draw(by_epoch.plot_recovered_by_epoch, results, num_truths),
            ),
        ]
    for column, label in headers.items():
        stem = column.removeprefix(_HELD_OUT)
        shown = {"label": label, "limits": limits.get(column)}
        dots = draw(
            by_level.plot_measure, rows, column, title=name, truth=truth.get(column)
        )
        drawings.append((stem, draw(dots, **shown)))
        if column in results.history:
            lines = draw(by_epoch.plot_by_epoch, results, column, **shown)
            drawings.append((f"{stem}_by_epoch", lines))
    names = [f"{stem}.png" for stem, _ in drawings]
    if len(set(names)) < len(names):
        raise ValueError(f"expected figures of different names, got {', '.join(names)}")
    return dict(zip(names, (drawing for _, drawing in drawings), strict=True))


def _save_all(
    drawings: Mapping[str, Callable[[], Figure]], folder: pathlib.Path
) -> str:
    """Draws and saves what can be.

    Returns:
      Which figures failed and why, in one line; nothing if none did.
    """
    failures = []
    for name, drawing in drawings.items():
        try:
            style.save(drawing(), folder / name)
        except Exception as error:
            reason = " ".join(str(error).split())
            failures.append(f"{name} ({type(error).__name__}: {reason})")
    return ", ".join(failures)
