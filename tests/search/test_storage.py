"""Storages: all kinds answer alike, outlive their server, and show no password; drivers are judged rightly."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time

import optuna
import pytest
from optuna.trial import TrialState

from explorer.search.storage import journal, open_study, redacted, shared_storage
from explorer.search.storage.driver import Driver
from explorer.search.storage.reconnecting import opened, reconnecting
from spaces import PruningError
from tests.support.servers import PostgreSQL, free_port, proxy


@pytest.fixture(scope="module")
def server():
    postgres = PostgreSQL()
    yield postgres
    postgres.close()


@pytest.fixture(params=["journal", "sqlite", "postgresql", "grpc"])
def url(request, tmp_path):
    """A new storage of every kind."""
    if request.param == "journal":
        yield str(tmp_path / "study.journal")
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    elif request.param == "postgresql":
        yield request.getfixturevalue("server").new(f"d{free_port()}")
    else:
        with proxy(f"sqlite:///{tmp_path}/study.db") as address:
            yield address


def study_in(url: str, name: str = "s") -> optuna.Study:
    return open_study(shared_storage(url), name, ["error", "flops"], identity="i")


def numbers(study: optuna.Study, state: TrialState) -> list[int]:
    return [trial.number for trial in study.get_trials(states=[state])]


def test_what_one_process_writes_another_reads(url):
    mine, theirs = study_in(url), study_in(url)
    trial = mine.ask({"a": optuna.distributions.IntDistribution(0, 3)})
    trial.set_user_attr("k", [1, "two"])
    assert numbers(theirs, TrialState.RUNNING) == [0]
    theirs.tell(trial.number, [0.25, 0.5])
    (found,) = mine.get_trials()
    assert found.values == [0.25, 0.5]
    assert found.params == trial.params
    assert found.user_attrs == {"k": [1, "two"]}
    with pytest.raises(PruningError, match="another configuration"):
        open_study(shared_storage(url), "s", ["error", "flops"], identity="j")


PASSWORDS = {
    "postgresql+psycopg://u:secret@h/d": "postgresql+psycopg://u:***@h/d",
    "postgresql+psycopg://u:se@cr/et@h:5/d": "postgresql+psycopg://u:***@h:5/d",
    "mysql://:secret@h:6379/0": "mysql://:***@h:6379/0",
    "mysql://h/d?password=secret&a=b": "mysql://h/d?password=***&a=b",
    "mysql://h/d?user=a&PASSWD=secret": "mysql://h/d?user=a&PASSWD=***",
    "sqlite:///a.db": "sqlite:///a.db",
    "head:13000": "head:13000",
}


@pytest.mark.parametrize("url", PASSWORDS)
def test_urls_are_shown_without_their_password(url):
    assert redacted(url) == PASSWORDS[url]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nosuch://u:SECRET@h/d", "allowed: host:port"),
        ("sqlite3:///x.db", "sqlite:///study.db"),
        ("localhost", "allowed: host:port"),
        ("/tmp/x.db", r"a path \*\.journal"),
        ("postgresql+psycopg://u:SECRET@127.0.0.1:1/d", "refused"),
        ("postgresql+psycopg://u:SEC%40RET@127.0.0.1:1/d?password=SECRET", "refused"),
        ("u:SECRET@h/d", "allowed: host:port"),
        ("127.0.0.1:1", "timeout"),
        ("sqlite:////nowhere/at/all.db", "unable to open"),
        ("/nowhere/at/all.journal", "No such file"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line(url, said, monkeypatch):
    monkeypatch.setattr("explorer.search.storage.storages._ANSWER", 0.2)
    pytest.importorskip("psycopg", exc_type=ImportError)
    pytest.importorskip("grpc")
    with pytest.raises(PruningError, match=said) as caught:
        shared_storage(url)
    line = str(caught.value)
    assert line.startswith("storage.url: ")
    assert "\n" not in line
    assert "SEC" not in line


@pytest.mark.parametrize(
    ("url", "missing", "extra"), [("h:1", "grpc", "grpc"), ("postgresql+psycopg://h/d", "psycopg", "rdb")]
)
def test_a_missing_driver_is_named_with_its_command(url, missing, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "grpc":
        monkeypatch.setattr(optuna.storages, "GrpcStorageProxy", _raising(ImportError("grpc")))
    with pytest.raises(PruningError, match=rf"pip install 'pruning-spaces\[{extra}\]'"):
        shared_storage(url)


def _raising(error: Exception):
    def call(*args, **kwargs):
        raise error

    return call


def test_a_torn_journal_is_mended_by_whoever_writes_next(tmp_path):
    path = tmp_path / "study.journal"
    mine, theirs = study_in(str(path)), study_in(str(path))
    for torn in (b'{"op_code": 6, "torn', b"{", b"\x00\xff"):
        with path.open("ab") as file:
            file.write(torn)
        mine.ask()
        assert len(theirs.get_trials()) == len(mine.get_trials())
    assert len(open_study(journal(path), "s", ["error", "flops"], identity="i").get_trials()) == 3


DAMAGES = {
    "missing": lambda lines: [*lines[:4], *lines[5:]],
    "the first is missing": lambda lines: lines[1:],
    "twice": lambda lines: [*lines[:5], lines[4], *lines[5:]],
    "exchanged": lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]],
    "junk": lambda lines: [*lines[:4], b"junk\n", *lines[5:]],
    "bytes": lambda lines: [*lines[:4], b"\x00\xff\n", *lines[5:]],
    "a number": lambda lines: [*lines[:4], b"5\n", *lines[5:]],
    "cut": lambda lines: [*lines[:4], lines[4][:20] + b"\n", *lines[5:]],
    "empty": lambda lines: [*lines[:4], b"\n", *lines[5:]],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_of_a_journal_is_named_and_never_skipped(tmp_path, damage):
    path = tmp_path / "study.journal"
    study = study_in(str(path))
    for value in range(4):
        study.tell(study.ask().number, [value, value])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(DAMAGES[damage](lines)))
    number = {"the first is missing": 1, "twice": 6}.get(damage, 5)
    with pytest.raises(PruningError, match=rf"study\.journal', line {number}: not the entry of that number") as caught:
        open_study(journal(path), "s", ["error", "flops"], identity="i")
    assert "\n" not in str(caught.value)
    path.write_bytes(b"".join(lines))
    assert len(open_study(journal(path), "s", ["error", "flops"], identity="i").get_trials()) == 4


def test_a_journal_on_a_full_disk_is_one_line_and_goes_on_once_there_is_room(tmp_path, monkeypatch):
    path = tmp_path / "study.journal"
    study = study_in(str(path))
    study.ask()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(PruningError, match="can't be written: No space left"):
            study.ask()
    study.ask()
    assert len(open_study(journal(path), "s", ["error", "flops"], identity="i").get_trials()) >= 2


class GoneError(ConnectionError):
    pass


class Flaky(optuna.storages.InMemoryStorage):
    """Loses the connection at every other writing, before or after it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        for name in ("create_new_trial", "set_trial_state_values", "set_trial_user_attr", "set_study_user_attr"):
            setattr(self, name, self._losing(getattr(self, name)))

    def _losing(self, method):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls % 4 == 1:
                raise GoneError
            given = method(*args, **kwargs)
            if self.calls % 4 == 3:
                raise GoneError
            return given

        return call


def test_nothing_is_written_twice_where_the_connection_breaks():
    storage = reconnecting(Flaky())
    study = optuna.create_study(storage=storage, directions=["minimize", "minimize"])
    for i in range(12):
        trial = study.ask()
        trial.set_user_attr("i", i)
        study.tell(trial, [float(i), -float(i)])
    trials = study.get_trials()
    assert [trial.user_attrs["i"] for trial in trials] == list(range(12))
    assert all(trial.state == TrialState.COMPLETE and trial.values == [t, -t] for t, trial in enumerate(trials))


def test_a_trial_that_somebody_else_finished_stays_theirs():
    study = optuna.create_study(storage=reconnecting(Flaky()), directions=["minimize", "minimize"])
    trial = study.ask()
    study.tell(trial.number, [1.0, 2.0])
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [3.0, 4.0])


def test_a_server_that_stays_away_is_given_up_in_one_line():
    class Away(optuna.storages.InMemoryStorage):
        def get_all_trials(self, *args, **kwargs):
            raise GoneError

    study = optuna.create_study(storage=reconnecting(Away(), patience=0.05))
    with pytest.raises(PruningError, match="no answer"):
        study.get_trials()


# what a server answers one after the other, and how often it is asked
OPENINGS = {
    "restarted": (
        ["the database system is shutting down", "Connection refused", "the database system is starting up"],
        4,
    ),
    "absent": (["Connection refused"], 1),
    "password": (["password authentication failed"], 1),
    "unknown": (['database "x" does not exist'], 1),
    "wrong after a restart": (["the database system is starting up", "password authentication failed"], 2),
}


@pytest.mark.parametrize("case", OPENINGS)
def test_only_a_restart_is_waited_for_when_a_storage_is_opened(case, monkeypatch):
    answers, asked = OPENINGS[case]
    monkeypatch.setattr("explorer.search.storage.reconnecting.time.sleep", lambda seconds: None)
    calls = 0

    def opening() -> str:
        nonlocal calls
        calls += 1
        if calls <= len(answers):
            raise RuntimeError("the wrapper") from ConnectionError(answers[calls - 1])
        return "open"

    if asked > len(answers):
        assert opened(opening) == "open"
    else:
        with pytest.raises(RuntimeError):
            opened(opening)
    assert calls == asked


def test_a_storage_is_opened_while_its_database_restarts(server):
    url = server.new(f"d{free_port()}")
    study_in(url)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(s.study_name for s in shared_storage(url).get_all_studies()))
    with server.shutting_down(url):
        thread.start()
        time.sleep(0.3)
        assert thread.is_alive()
    thread.join(60)
    assert found == ["s"]


def test_a_server_that_restarts_for_ever_is_given_up_in_one_line():
    def opening() -> None:
        raise ConnectionError("the database system is starting up")

    with pytest.raises(PruningError, match="no answer"):
        opened(opening, patience=0.05)


def test_a_mistake_is_not_repeated():
    class Wrong(optuna.storages.InMemoryStorage):
        calls = 0

        def get_all_trials(self, *args, **kwargs):
            self.calls += 1
            raise KeyError("x")

    storage = reconnecting(Wrong())
    with pytest.raises(KeyError):
        optuna.create_study(storage=storage).get_trials()
    assert storage.calls == 1


@pytest.mark.parametrize("through", ["postgresql", "grpc"])
def test_a_study_goes_on_while_its_database_restarts(server, through):
    database = server.new(f"d{free_port()}")
    if through == "grpc":
        with proxy(database) as address:
            drive_through_restarts(server, address, 2)
    else:
        drive_through_restarts(server, database, 2)


def drive_through_restarts(server: PostgreSQL, url: str, restarts: int) -> None:
    study = study_in(url)
    stop = threading.Event()

    def restart() -> None:
        for _ in range(restarts):
            time.sleep(0.3)
            server.restart(0.2)
        stop.set()

    thread = threading.Thread(target=restart)
    thread.start()
    told = []
    while not stop.is_set() or len(told) < 10:
        trial = study.ask({"a": optuna.distributions.IntDistribution(0, 99)})
        trial.set_user_attr("mine", True)
        study.tell(trial, [float(trial.number), 0.0])
        told.append(trial.number)
    thread.join()
    assert numbers(study, TrialState.COMPLETE) == told
    assert numbers(study, TrialState.RUNNING) == []


def test_no_proxy_outlives_its_patience(tmp_path):
    with proxy(f"sqlite:///{tmp_path}/study.db") as address:
        storage = reconnecting(shared_storage(address), patience=0.1)
        study = optuna.create_study(storage=storage)
    assert study.study_name


def process_of(url: str, code: str) -> subprocess.Popen[str]:
    """Start a driver of the study in a process of its own; it prints its identity and waits to be killed."""
    text = (
        "import sys, time\n"
        "from explorer.search.storage.driver import Driver\n"
        "from explorer.search.storage import open_study, shared_storage\n"
        f"study = open_study(shared_storage({url!r}), 's', ['error', 'flops'], identity='i')\n" + code
    )
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def test_a_driver_is_dead_once_its_process_is(tmp_path):
    url = str(tmp_path / "study.journal")
    driver = Driver(study_in(url))
    process = process_of(
        url, "with Driver(study) as driver:\n    print(driver.identity, flush=True)\n    time.sleep(60)"
    )
    assert process.stdout is not None
    identity = process.stdout.readline().strip()
    assert not driver.is_dead(identity)
    host, number, start, rest = identity.split(":")
    assert driver.is_dead(f"{host}:{number}:{int(start) - 1}:{rest}"), "another process of the same number"
    process.kill()
    # not waited for: it is there, and only for its parent
    driver._checked.clear()
    deadline = time.monotonic() + 10
    while not driver.is_dead(identity) and time.monotonic() < deadline:
        driver._checked.clear()
        time.sleep(0.01)
    assert driver.is_dead(identity)
    process.wait()


def test_drivers_of_this_process_live_while_they_are_entered():
    study = optuna.create_study()
    watching = Driver(study)
    with Driver(study) as driver:
        assert not watching.is_dead(driver.identity)
        assert not driver.is_dead(driver.identity)
    assert watching.is_dead(driver.identity)
    assert not driver.is_dead(driver.identity)


@pytest.mark.parametrize("identity", [None, "", "host:1", "a:b:c:d", "somewhere/else:1:1:ff", "x:1"])
def test_what_is_no_drivers_identity_is_not_dead(identity):
    with Driver(optuna.create_study()) as driver:
        assert not driver.is_dead(identity)


def elsewhere(driver: Driver) -> str:
    """Return the driver's identity as if it were on another machine."""
    return "else/" + driver.identity


def test_a_silent_driver_of_another_machine_is_dead_after_three_beats(url, monkeypatch):
    study, other = study_in(url), study_in(url)
    watching = Driver(study)
    far = Driver(other)
    far.identity = elsewhere(far)
    for _ in range(5):
        far._read_and_count()
        watching._read_and_count()
        assert not watching.is_dead(far.identity)
    judged = []
    for _ in range(4):
        watching._read_and_count()
        judged.append(watching.is_dead(far.identity))
    assert judged == [False, False, True, True]
    far._read_and_count()
    watching._read_and_count()
    assert not watching.is_dead(far.identity)


def test_a_driver_of_another_machine_that_ended_is_dead_at_once(url):
    study, other = study_in(url), study_in(url)
    far = Driver(other)
    far.identity = elsewhere(far)
    with far, Driver(study) as watching:
        assert not watching.is_dead(far.identity)
    watching._read_and_count()
    assert watching.is_dead(far.identity)


def test_it_beats_and_ends(tmp_path):
    study = study_in(str(tmp_path / "study.journal"))
    with Driver(study, beat=0.01) as driver:
        deadline = time.monotonic() + 10
        key = f"driver:{driver.identity}"
        while study._storage.get_study_system_attrs(study._study_id)[key] < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert study._storage.get_study_system_attrs(study._study_id)[key] >= 5
    driver._thread.join(5)
    assert not driver._thread.is_alive()
    assert study._storage.get_study_system_attrs(study._study_id)[key] is None
