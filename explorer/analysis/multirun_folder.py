"""MultirunFolder: the names, readers and writers of what a multirun leaves beside the folders of its jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from explorer.analysis.run_folder import RunFolder
from explorer.search.metrics import Metric
from explorer.utils.files import atomic, unwritable
from spaces import PruningError

__all__ = ["BUDGETS", "MultirunFolder", "error_column"]

BUDGETS = (0.75, 0.5, 0.35)
"""Shares of the dense network's FLOPs at which the table of jobs has the least error."""


def error_column(budget: float) -> str:
    """Return the column of the table of jobs that has the least error within a share of the FLOPs."""
    return f"error_at_{budget}"


_COLUMNS = ["job", "choices", "seed", "state", "trials", "hypervolume", *map(error_column, BUDGETS), "seconds"]


@dataclass(frozen=True)
class MultirunFolder:
    """The folder of a multirun, in which every job has a folder.

    Parameters
    ----------
    path
        The folder, which need not be there.
    """

    path: Path

    @property
    def jobs_file(self) -> Path:
        """The table of jobs: how far each is, and what it found."""
        return self.path / "jobs.csv"

    @property
    def frontiers_file(self) -> Path:
        """The frontiers of all jobs as one table."""
        return self.path / "frontiers.csv"

    @property
    def report(self) -> Path:
        """The page that shows all jobs."""
        return self.path / "report.html"

    def job(self, name: str) -> RunFolder:
        """Return the folder of a job."""
        return RunFolder(self.path / name)

    def plot(self, name: str) -> Path:
        """Return the path of a figure's files without their endings."""
        return self.path / "plots" / name

    def ended(self) -> list[RunFolder]:
        """Return the folders of the jobs that ended at least once."""
        return [RunFolder(path.parent) for path in sorted(self.path.glob("*/summary.json"))]

    def begun(self) -> list[RunFolder]:
        """Return the folders of the jobs that began."""
        return [RunFolder(path.parent) for path in sorted(self.path.glob("*/config.yaml"))]

    @property
    def there(self) -> bool:
        """Whether the folder is a multirun's."""
        return self.jobs_file.is_file()

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the table of jobs by job; none where it is not there or damaged."""
        try:
            stored = pd.read_csv(self.jobs_file, dtype=str, keep_default_na=False)[_COLUMNS]
            stored["seconds"].astype(float)
        except (OSError, ValueError, KeyError):
            # rows are made again from the jobs' folders
            return {}
        return {row["job"]: row for row in stored.to_dict("records")}

    def errors(self) -> dict[str, Metric]:
        """Return how the errors of each job that ended are shown."""
        summaries = {job.name: job.summary() for job in self.ended()}
        return {name: Metric("error", **found["error"]) for name, found in summaries.items() if found is not None}

    def refused(self) -> PruningError:
        """Return what is wrong with a multirun's folder where a run's is asked for; it names those of its jobs."""
        names = [job.name for job in self.ended()]
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return PruningError(f"folder: {str(self.path)!r} is a multirun's, allowed is that of a job: {listed or 'none'}")

    @contextmanager
    def jobs(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Give the rows of the table of jobs by job, and write them if they were changed; one process at a time.

        Raises
        ------
        PruningError
            If the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".jobs.lock")
            lock.acquire()
        except OSError as error:
            reason = unwritable(error, self.path.parent)
            raise PruningError(f"name: the folder {str(self.path)!r} can't be written: {reason}") from None
        try:
            rows = self.rows()
            before = json.dumps(rows)
            yield rows
            if json.dumps(rows) != before:
                with atomic(self.jobs_file) as temporary:
                    pd.DataFrame(list(rows.values()), columns=_COLUMNS).to_csv(temporary, index=False)
        finally:
            lock.release()

    def write_frontiers(self, table: pd.DataFrame) -> None:
        """Write the frontiers of all jobs."""
        with atomic(self.frontiers_file) as temporary:
            table.to_csv(temporary, index=False)
