"""Wire: how workers reach their driver, and know each other by a key."""

from __future__ import annotations

import contextlib
import queue
import secrets
import socket
import threading
from collections.abc import Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Pipe, answer_challenge, deliver_challenge
from typing import Any

__all__ = ["LOOPBACK", "Lobby", "connect", "own_hosts"]

LOOPBACK = "127.0.0.1"
# seconds after which silence of a node is asked about, between questions, and how many go unanswered before it is lost
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
_PATIENCE = 10


def own_hosts() -> list[str]:
    """Return the names and addresses under which other machines, or processes of this one, may reach this machine."""
    hosts = [socket.gethostname()]
    # without a network there is no such address
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # sends nothing, but chooses the address that faces other machines
        probe.connect(("192.0.2.1", 9))
        hosts.append(probe.getsockname()[0])
    return [*hosts, LOOPBACK]


class Lobby:
    """Where workers report to their driver.

    Parameters
    ----------
    host
        The address that is listened at; empty for all that this machine has.

    Attributes
    ----------
    key, port
        What `connect` needs.
    bell
        Can be read once somebody was admitted.
    """

    def __init__(self, host: str) -> None:
        self.key = secrets.token_bytes(32)
        self._socket = socket.create_server((host, 0), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self._admitted: queue.SimpleQueue[tuple[int, Connection]] = queue.SimpleQueue()
        self.bell, self._ringer = Pipe(duplex=False)
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> tuple[int, Connection]:
        """Return the next worker's number and its connection, waiting for one."""
        self.bell.recv_bytes()
        return self._admitted.get()

    def close(self) -> None:
        """Let nobody in any more."""
        # closing alone would not wake the thread that listens
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            # a stranger who says nothing keeps nobody else from coming in
            threading.Thread(target=self._admit, args=(caller,), daemon=True).start()

    def _admit(self, caller: socket.socket) -> None:
        connection = _connection(caller)
        try:
            deliver_challenge(connection, self.key)
            answer_challenge(connection, self.key)
            number = connection.recv()
        except (AuthenticationError, EOFError, OSError):
            connection.close()
        else:
            self._admitted.put((number, connection))
            self._ringer.send_bytes(b".")


def connect(hosts: Sequence[str], port: int, key: bytes, number: int) -> Connection:
    """Return a connection to the driver that knows the key.

    Parameters
    ----------
    hosts
        Where it may be, tried in order.
    port, key
        Of its `Lobby`.
    number
        Which worker this is.

    Raises
    ------
    OSError
        If no host answers as the driver does.
    """
    failed: list[str] = []
    for host in hosts:
        try:
            connection = _connection(socket.create_connection((host, port), timeout=_PATIENCE))
            answer_challenge(connection, key)
            deliver_challenge(connection, key)
            connection.send(number)
            return connection
        except (AuthenticationError, EOFError, OSError) as error:
            failed.append(f"{host}: {error}")
    raise OSError(f"the driver can't be reached at port {port} ({'; '.join(failed)})")


def _connection(end: socket.socket) -> Connection[Any, Any]:
    end.setblocking(True)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Connection(end.detach())
