"""RunFolder: the names, readers, writers and the lock of everything that a run leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from explorer.utils.files import atomic, unwritable
from spaces import Network, PruningError, Recipe

__all__ = ["RunFolder"]

T = TypeVar("T")

# YAML's end of a document: without it a file that is cut between two lines would be another whole one
_END = "...\n"
# what a whole file has; the last fact is the last line of its file
_FACTS = ("data_identity", "network", "machine")
_SUMMARY = (
    "trials",
    "points",
    "ended",
    "hypervolume",
    "hypervolume_ladder",
    "failed",
    "error",
    "dense",
    "warnings",
    "tau",
)
_TABLES: Mapping[str, Sequence[str]] = {
    "trials": ("trial", "state", "source", "rung", "error", "flops", "flops_ratio", "params", "bytes"),
    "frontier": ("trial", "error", "error_se", "flops", "flops_ratio", "params", "params_ratio", "bytes"),
    "baselines": ("baseline", "allocation", "family", "target", "asked", "state"),
    "proxies": ("trial", "vanilla_error", "bn_error", "importance", "change", "synflow", "snip"),
    "sensitivity": ("axis", "layer", "granularity", "ratio", "change", "measured", "flops", "params"),
    "final": ("point", "n", "epochs", "test_error", "test_error_sd", "weights", "reason"),
}


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    A reader returns None for a file that is not there or is damaged, and the run then makes it again. A writer gives a
    file its new content at once; it raises a PruningError with the system's reason where that cannot be done.

    Parameters
    ----------
    path
        The folder, which need not be there.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """The study, where no other storage holds it."""
        return self.path / "study.journal"

    @property
    def trials_file(self) -> Path:
        """The trials table as other runs begin with it."""
        return self.path / "trials.parquet"

    @property
    def log(self) -> Path:
        """The log."""
        return self.path / "run.log"

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.path / "report.html"

    @property
    def workers(self) -> Path:
        """The folder of what workers say."""
        return self.path / "workers"

    @property
    def checkpoints(self) -> Path:
        """The folder of what candidates were trained to."""
        return self.path / "checkpoints"

    @property
    def retrained(self) -> Path:
        """The folder of what frontier points were retrained to at the end."""
        return self.path / "final"

    def export(self, point: str) -> Path:
        """Return the folder to which a point is exported."""
        return self.path / "export" / point

    @staticmethod
    def point(trial: int) -> str:
        """Return what a trial is called where it is a point of the frontier: as the file of its recipe."""
        return f"trial-{int(trial):04d}"

    def recipe_file(self, point: str) -> Path:
        """Return the recipe's file of a frontier point or a baseline."""
        return self.path / "recipes" / f"{point}.yaml"

    def has_recipe(self, path: Path) -> bool:
        """Tell whether a file is one of this run's recipes."""
        return path.resolve().parent == (self.path / "recipes").resolve()

    def plot(self, name: str) -> Path:
        """Return the path of a figure's files without their endings."""
        return self.path / "plots" / name

    @property
    def plots(self) -> list[Path]:
        """The figures that are there, as png."""
        return sorted(self.plot("").glob("*.png"))

    def config(self) -> dict[str, Any] | None:
        """Return the configuration, with its ``identity`` and the ``facts`` of data and network."""

        def read(path: Path) -> dict[str, Any]:
            text = path.read_text()
            found = yaml.safe_load(text)
            _needed(found, ("identity", "facts"))
            _needed(found["facts"], _FACTS)
            if not text.endswith("\n") or not isinstance(found["identity"], Mapping):
                raise ValueError("it is cut")
            return found

        return self._read("config.yaml", read)

    def summary(self) -> dict[str, Any] | None:
        """Return the summary: trials, why it ended, hypervolumes, the dense network's metrics and costs."""
        return self._read("summary.json", lambda path: _needed(json.loads(path.read_text()), _SUMMARY))

    def doubts(self) -> list[str]:
        """Return the sentences on what makes the run's numbers doubtful."""
        summary = self.summary()
        return [] if summary is None else summary["warnings"]

    @property
    def written(self) -> float | None:
        """When the run last ended, as the time of its summary; None where it did not."""
        path = self.path / "summary.json"
        return path.stat().st_mtime if path.exists() else None

    def network(self) -> Network | None:
        """Return the Network whose recipes were explored."""
        return self._read("network.yaml", lambda path: Network.from_yaml(_ended(path.read_text())))

    def trials(self) -> pd.DataFrame | None:
        """Return the trials table, see `explorer.analysis.tables.trials_table`."""
        return self._read("trials.parquet", lambda path: _whole(pd.read_parquet(path), "trials"))

    def frontier(self) -> pd.DataFrame | None:
        """Return the frontier, with latencies where they were measured."""
        return self._table("frontier")

    def baselines(self) -> pd.DataFrame | None:
        """Return the evaluated baselines."""
        return self._table("baselines", dtype={"asked": str})

    def proxies(self) -> pd.DataFrame | None:
        """Return the proxies of a population's recipes, see `explorer.evaluation.proxies`."""
        return self._table("proxies")

    def sensitivity(self) -> pd.DataFrame | None:
        """Return how much each choice alone changes predictions, see `explorer.analysis.sensitivity`."""
        return self._table("sensitivity")

    def final(self) -> pd.DataFrame | None:
        """Return the retrained points, the dense network first."""
        return self._table("final")

    def recipe(self, point: str) -> Recipe | None:
        """Return the recipe of a frontier point or a baseline."""
        return self._read(f"recipes/{point}.yaml", lambda path: Recipe.from_yaml(_ended(path.read_text())))

    def damaged(self) -> list[str]:
        """Return the names of the files of a finished run that are not there or cannot be read."""
        summary, front, trials = self.summary(), self.frontier(), self.trials()
        count = {} if summary is None else summary
        points = [] if front is None else [self.point(trial) for trial in front["trial"]]
        whole = {
            "config.yaml": self.config() is not None,
            "network.yaml": self.network() is not None,
            "summary.json": summary is not None,
            "trials.parquet": trials is not None and len(trials) == count.get("trials", len(trials)),
            "frontier.csv": front is not None and len(front) == count.get("points", len(front)),
        }
        whole |= {f"recipes/{point}.yaml": self.recipe(point) is not None for point in points}
        return [name for name, is_whole in whole.items() if not is_whole]

    def write_config(self, record: Mapping[str, Any]) -> None:
        """Write the configuration, ``facts`` last."""
        # through JSON, so that the file repeats shared values instead of referring to them
        plain = json.loads(json.dumps(record, default=str))
        self._write_text("config.yaml", yaml.safe_dump(plain, sort_keys=False))

    def write_network(self, network: Network) -> None:
        """Write the Network whose recipes are explored."""
        self._write_text("network.yaml", network.to_yaml() + _END)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary."""
        self._write_text("summary.json", json.dumps(summary, indent=1) + "\n")

    def write_trials(self, trials: pd.DataFrame) -> None:
        """Write the trials table, for programs and for people."""
        with self._written("trials.csv") as temporary:
            trials.to_csv(temporary, index=False)
        with self._written("trials.parquet") as temporary:
            trials.to_parquet(temporary, index=False)

    def write_frontier(self, front: pd.DataFrame) -> None:
        """Write the frontier."""
        self._write_table("frontier", front)

    def write_baselines(self, table: pd.DataFrame) -> None:
        """Write the evaluated baselines."""
        self._write_table("baselines", table)

    def write_proxies(self, table: pd.DataFrame) -> None:
        """Write the proxies of a population's recipes."""
        self._write_table("proxies", table)

    def write_sensitivity(self, table: pd.DataFrame) -> None:
        """Write how much each choice alone changes predictions."""
        self._write_table("sensitivity", table)

    def write_final(self, table: pd.DataFrame) -> None:
        """Write the retrained points."""
        self._write_table("final", table)

    def write_recipe(self, point: str, recipe: Recipe, remark: str) -> None:
        """Write the recipe of a frontier point or a baseline, below a line that says what it reaches."""
        self._write_text(f"recipes/{point}.yaml", f"# {remark}\n{recipe.to_yaml()}{_END}")

    def drop_points(self, kept: Collection[str]) -> None:
        """Remove the recipes of frontier points but for those that are kept."""
        for path in self.recipe_file("").parent.glob("trial-*.yaml"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder and hold its lock, which dies with the process.

        A folder that was created for nothing is removed again.

        Raises
        ------
        PruningError
            If another process holds it, or the folder cannot be written.
        """
        new, path = not self.there, self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            lock.acquire(timeout=0)
        except Timeout:
            raise PruningError(
                f"name: another process is driving the run in {str(self)!r}; wait for it or stop it"
            ) from None
        except OSError as error:
            reason = unwritable(error, self.path.parent)
            raise PruningError(f"name: the folder {str(self)!r} can't be written: {reason}") from None
        try:
            yield
        finally:
            lock.release()
            if new and set(self.path.iterdir()) <= {path}:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    self.path.rmdir()

    @property
    def there(self) -> bool:
        """Whether the folder is there."""
        try:
            return self.path.is_dir()
        except OSError:
            # a name that no folder can have
            return False

    def _read(self, name: str, read: Callable[[Path], T]) -> T | None:
        try:
            return read(self.path / name)
        except Exception:
            # cut, empty, of another format or not there: whatever is wrong with a file, the run makes it again
            return None

    def _table(self, name: str, **options: Any) -> pd.DataFrame | None:
        def read(path: Path) -> pd.DataFrame:
            if not path.read_bytes().endswith(b"\n"):
                raise ValueError("it is cut")
            return _whole(pd.read_csv(path, **options), name)

        return self._read(f"{name}.csv", read)

    def _write_table(self, name: str, table: pd.DataFrame) -> None:
        with self._written(f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)

    def _write_text(self, name: str, text: str) -> None:
        with self._written(name) as temporary:
            temporary.write_text(text)

    @contextmanager
    def _written(self, name: str) -> Iterator[Path]:
        path = self.path / name
        with atomic(path) as temporary:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary


def _ended(text: str) -> str:
    if not text.endswith(_END):
        raise ValueError("it is cut")
    return text


def _needed(found: Any, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(found, Mapping) or any(key not in found for key in keys):
        raise ValueError(f"it lacks {', '.join(keys)}")
    return dict(found)


def _whole(table: pd.DataFrame, name: str) -> pd.DataFrame:
    _needed(dict.fromkeys(table), _TABLES[name])
    return table
