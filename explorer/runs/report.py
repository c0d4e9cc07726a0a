"""`explore report`: the page of runs, multiruns and populations, written beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from explorer.analysis.multirun_folder import MultirunFolder
from explorer.utils.console import console
from explorer.utils.files import atomic, unwritable
from spaces import PruningError

__all__ = ["show_report", "with_page", "write_report"]

# drawing takes a second to import, so it is imported inside


def write_report(paths: Sequence[Path], out: Path | None = None, *, compare: bool = False, plots: bool = False) -> Path:
    """Write the page of folders, print its path and return it.

    Parameters
    ----------
    paths
        Folders of runs, of multiruns or of populations, any number of them.
    out
        Where to; by default ``report.html`` in the folder, of several folders in the current one.
    compare
        Compare the runs of the first folder with those of the second, seed by seed, and print what that tells.
    plots
        Write the page's figures as png, svg and pdf too, in ``plots/`` beside it.

    Raises
    ------
    PruningError
        If a folder holds no run that can be read, the runs do not compare, or the page can't be written.
    """
    from explorer.analysis.report import comparison_section, report_page
    from explorer.analysis.studies import compare_sets, read_results

    if compare and len(paths) != 2:
        raise PruningError(f"compare: {len(paths)} folders are given, allowed are two")
    results, left = read_results(paths)
    section = None
    if compare:
        (first, _), (second, _) = (read_results([path]) for path in paths)
        found = compare_sets(first, second, _names(*paths))
        section = comparison_section(found)
        for line in found.words():
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    target = out or (MultirunFolder(paths[0]).report if len(paths) == 1 else Path("report.html"))
    _write(target, report_page(results, left, folders=paths, comparison=section))
    for one in left:
        console.print(f"left out: {one.reason}", soft_wrap=True, markup=False, highlight=False)
    if plots:
        from explorer.runs.report_plots import write_plots

        for path in write_plots(results, target.parent / "plots"):
            console.print(f"plot: {path}", soft_wrap=True)
    console.print(f"report: {target}", soft_wrap=True)
    return target


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Return what two folders are called: their names, or where these are equal their paths."""
    names = first.resolve().name, second.resolve().name
    return names if names[0] != names[1] else (str(first), str(second))


def _write(target: Path, page: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise PruningError(f"out: {str(target)!r} is a folder, allowed is a file such as report.html")
    except OSError as error:
        reason = unwritable(error, target.parent)
        raise PruningError(f"{str(target)!r} can't be written: {reason}") from None
    with atomic(target) as temporary:
        temporary.write_text(page, encoding="utf-8")


@contextmanager
def with_page(path: Path) -> Iterator[None]:
    """Write the page of a folder after the work in it, also where it was interrupted, see `show_report`."""
    try:
        yield
    except KeyboardInterrupt:
        show_report(path)
        raise
    show_report(path)


def show_report(path: Path) -> None:
    """Write the page of a folder and print its path; one that is newer than what it shows is only named.

    What work has left is there without it: a page that can't be made is a line and no error.
    """
    if not (path / "summary.json").exists() and not MultirunFolder(path).ended():
        return
    page = MultirunFolder(path).report
    if page.exists() and page.stat().st_mtime >= _changed(path):
        console.print(f"report: {page}", soft_wrap=True)
        return
    try:
        write_report([path])
    except PruningError as error:
        console.print(f"[bold]warning[/bold]: no report, {error}", soft_wrap=True)


def _changed(path: Path) -> float:
    """Return when what a page shows was last written."""
    shown = [*path.glob("*.csv"), *path.glob("*.json"), *path.glob("*/*.csv"), *path.glob("*/summary.json")]
    return max(file.stat().st_mtime for file in shown)
