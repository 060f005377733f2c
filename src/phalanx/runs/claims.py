"""Sharing a run between processes: who works on which image.

A claim only saves work. Two owners of one image (after a takeover, or across hosts whose
clocks disagree) compute the same counts from the same noise keys, and the store keeps one.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

STALE_SECONDS = 120.0


def owner_id(pid: int | None = None) -> str:
    """``host:pid:start`` of a process; the start time tells a reused process number apart."""
    number = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{number}:{_start_time(number)}"


def is_dead(owner: str) -> bool:
    """Whether ``owner`` is a process of this host that no longer runs.

    False for other hosts, of whose processes nothing is known here.
    """
    try:
        host, number, start = owner.rsplit(":", 2)
        pid = int(number)
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    return not _runs(pid) or _start_time(pid) != start


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
    """Claim the first ``count`` candidates nobody works on, inside the caller's transaction."""
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
