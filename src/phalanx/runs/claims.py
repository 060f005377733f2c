"""Sharing a run between processes: who works on which image.

A claim only saves work. Two owners of one image (after a takeover) compute the same counts
from the same noise keys, and the store keeps one. All owners are of one machine, because
SQLite's write-ahead log does not work over a network file system ("Write-Ahead Logging").
"""

from __future__ import annotations

import os
import secrets
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from phalanx.errors import RunError

STALE_SECONDS = 120.0

_owners: set[str] = set()
"""The owners of this process that work: the process may outlive what failed in it."""


def owner_id() -> str:
    """A new owner, of this process: ``host:pid:start:token``; it lives until `forget`.

    The start time tells a reused process number apart, the token one attempt of a notebook
    from the next.
    """
    owner = f"{process_id(os.getpid())}:{secrets.token_hex(4)}"
    _owners.add(owner)
    return owner


def process_id(pid: int) -> str:
    """``host:pid:start`` of a process of this host."""
    return f"{socket.gethostname()}:{pid}:{_start_time(pid)}"


def forget(owner: str) -> None:
    """From now on, ``owner`` counts as dead."""
    _owners.discard(owner)


def is_dead(owner: str) -> bool:
    """Whether ``owner`` is of this host and has ended, or its process has.

    False for other hosts, of whose processes nothing is known here.
    """
    process, _, _ = owner.rpartition(":")
    try:
        host, number, start = process.rsplit(":", 2)
        pid = int(number)
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    if pid == os.getpid():
        return owner not in _owners
    return not _runs(pid) or _start_time(pid) != start


def require_one_host(connection: sqlite3.Connection, now: float, here: str = "") -> None:
    """Refuse to work on ``here`` (default: this host) beside a living owner of another host.

    Raises:
        RunError: there is one; says which.
    """
    here = here or socket.gethostname()
    for owner, beat_at in connection.execute("SELECT owner, beat FROM owners"):
        host = _host(owner)
        if host != here and now - beat_at <= STALE_SECONDS:
            raise RunError(
                f"{host} works on this run, and this is {here}",
                why="SQLite's write-ahead log is memory that processes of one machine share",
                repair=f"wait until it ends (if it died, {STALE_SECONDS:g} s), "
                "or give another --out",
            )


def _host(owner: str) -> str:
    return owner.rsplit(":", 3)[0]


def _runs(pid: int) -> bool:
    if os.name != "posix":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_time(pid: int) -> str:
    """Clock ticks from boot to the start of ``pid`` (Linux), else ``"0"``.

    A process that ended but was not waited for is not running any more, so has no start time.
    """
    if sys.platform != "linux":
        return "0"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    # The name, field 2, is in parentheses and may hold spaces; state and start time are the
    # fields 3 and 22 of proc_pid_stat(5).
    after_name = stat.rpartition(")")[2].split()
    return "gone" if after_name[0] in "ZX" else after_name[19]


def beat(connection: sqlite3.Connection, owner: str, now: float) -> None:
    """Record that ``owner`` is alive at ``now`` (seconds since the epoch)."""
    connection.execute(
        "INSERT INTO owners VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET beat = excluded.beat",
        (owner, now),
    )


def release(connection: sqlite3.Connection, owner: str) -> None:
    """Give back everything ``owner`` claimed."""
    connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))
    connection.execute("DELETE FROM owners WHERE owner = ?", (owner,))


def take(
    connection: sqlite3.Connection,
    candidates: Iterable[int],
    owner: str,
    *,
    count: int,
    is_finished: Callable[[int], bool],
    now: float,
) -> list[int]:
    """Claim the first ``count`` candidates nobody works on, inside the caller's transaction.

    Raises:
        RunError: see `require_one_host`.
    """
    require_one_host(connection, now, _host(owner))
    beat(connection, owner, now)
    alive: dict[str, bool] = {owner: True}
    taken: list[int] = []
    for image in candidates:
        if len(taken) >= count:
            break
        if is_finished(image):
            continue
        holder = connection.execute("SELECT owner FROM claims WHERE image = ?", (image,))
        found = holder.fetchone()
        if found and _is_alive(connection, found[0], alive, now):
            continue
        connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (image, owner))
        taken.append(image)
    return taken


def _is_alive(
    connection: sqlite3.Connection, owner: str, known: dict[str, bool], now: float
) -> bool:
    if owner not in known:
        found = connection.execute("SELECT beat FROM owners WHERE owner = ?", (owner,)).fetchone()
        known[owner] = bool(found) and now - found[0] <= STALE_SECONDS and not is_dead(owner)
    return known[owner]
