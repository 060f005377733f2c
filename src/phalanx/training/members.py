"""Members side by side: each group of members in a process of its own, or one after another."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from phalanx.errors import Interrupted, PhalanxError, TrainingError
from phalanx.training.events import Event, Members, Watch
from phalanx.training.job import Job, run_job

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class _Failure:
    """An error on its way between processes; ``kind`` is None where it was not a typed one."""

    kind: type[PhalanxError] | None
    what: str
    why: str = ""
    repair: str = ""


@dataclass(frozen=True)
class _Worker:
    slot: int
    members: Members
    process: BaseProcess
    messages: Connection


def train_members(jobs: Sequence[Job], workers: int, watch: Watch) -> None:
    """Run every job; what one of them fails at does not stop the others.

    Args:
        jobs: one a group of members.
        workers: processes; 1 trains in this process, one job after another.
        watch: told of every event, always from this process.

    Raises:
        PhalanxError: of the first group that failed, named; the others' work is kept.
        Interrupted: Ctrl-C; every state is saved.
    """
    if workers == 1:
        _train_in_turn(jobs, watch)
    else:
        _train_side_by_side(jobs, workers, watch)


def _train_in_turn(jobs: Sequence[Job], watch: Watch) -> None:
    failures: dict[Members, PhalanxError] = {}
    with stop_on_interrupt() as stopped:
        for job in jobs:
            try:
                run_job(job, watch, stopped)
            except Interrupted:
                raise
            except PhalanxError as error:
                failures[job.members] = error
    _raise_first({members: _described(error) for members, error in failures.items()})


def _train_side_by_side(jobs: Sequence[Job], workers: int, watch: Watch) -> None:
    pool = _Pool(list(jobs), workers)
    with stop_on_interrupt() as interrupted:
        try:
            while pool.busy:
                if interrupted():
                    pool.stop()
                pool.start_what_fits()
                pool.receive(watch)
        finally:
            pool.abandon()
    _raise_first({m: f for m, f in pool.failures.items() if f.kind is not Interrupted})
    if pool.failures or pool.stopped:
        raise Interrupted(
            "training stopped", repair="the same command with the same --out continues"
        )


class _Pool:
    """Jobs that wait, workers that run, and what went wrong."""

    def __init__(self, queue: list[Job], workers: int) -> None:
        self._context = mp.get_context("spawn")
        self._stop = self._context.Event()
        self._queue, self._free = queue, list(range(workers))
        self._running: list[_Worker] = []
        self.failures: dict[Members, _Failure] = {}

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._queue or self._running)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Start nothing more; the workers save and end."""
        self._stop.set()
        self._queue.clear()

    def start_what_fits(self) -> None:
        """One job for every free slot."""
        while self._queue and self._free:
            slot, job = self._free.pop(0), self._queue.pop(0)
            messages, sender = self._context.Pipe(duplex=False)
            process = self._context.Process(
                target=_work,
                args=(job.on_worker(slot), sender, self._stop),
                name=f"member-{_named(job.members)}",
            )
            process.start()
            sender.close()  # so that the pipe ends when the worker does
            self._running.append(_Worker(slot, job.members, process, messages))

    def receive(self, watch: Watch) -> None:
        """Pass on what the workers say, for half a second at most."""
        ready = wait([worker.messages for worker in self._running], timeout=POLL_SECONDS)
        for worker in [worker for worker in self._running if worker.messages in ready]:
            try:
                message: Event | _Failure = worker.messages.recv()
            except EOFError:
                self._retire(worker)
                continue
            if isinstance(message, _Failure):
                self.failures[worker.members] = message
            else:
                watch(message)

    def abandon(self) -> None:
        """End what still runs after an error: without a listener the workers stop."""
        if self._running:
            self.stop()
        for worker in self._running:
            worker.messages.close()
            worker.process.join()

    def _retire(self, worker: _Worker) -> None:
        worker.process.join()
        worker.messages.close()
        self._running.remove(worker)
        self._free.append(worker.slot)
        code = worker.process.exitcode
        if code and worker.members not in self.failures:
            self.failures[worker.members] = _Failure(
                TrainingError,
                f"its process ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}",
                "the system ended it, perhaps for memory; what was saved is kept"
                if code < 0
                else "its last words are on stderr; what was saved is kept",
                "run the same command again; --workers 1 needs less memory",
            )


def _work(job: Job, sender: Connection, stop: Any) -> None:
    """The body of a worker process."""
    # Ctrl-C reaches every process of the terminal; the parent decides and tells through `stop`.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def stopped() -> bool:
        return stop.is_set() or os.getppid() != parent

    try:
        run_job(job, sender.send, stopped)
    except PhalanxError as error:
        sender.send(_described(error))
    except BrokenPipeError:  # the parent was killed: nobody is left to tell
        return
    except Exception:  # noqa: BLE001 (a bug must reach the parent, which prints it and fails)
        sender.send(_Failure(None, traceback.format_exc()))
    finally:
        sender.close()


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """While inside, the first Ctrl-C only makes the yielded function say true; the second one
    interrupts at once. Outside the main thread signals are left alone.
    """
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return

    def note(number: int, frame: Any) -> None:
        if seen.is_set():
            signal.default_int_handler(number, frame)
        seen.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _described(error: PhalanxError) -> _Failure:
    return _Failure(type(error), error.what, error.why, error.repair)


def _named(members: Members) -> str:
    return ", ".join(map(str, members))


def _raise_first(failures: dict[Members, _Failure]) -> None:
    for members, failure in sorted(failures.items()):
        name = f"member {_named(members)}"
        if failure.kind is None:
            raise RuntimeError(f"{name} failed:\n{failure.what}")
        others = len(failures) - 1
        more = f" (and {others} more failed)" if others else ""
        what = failure.what if name in failure.what else f"{name}: {failure.what}"
        raise failure.kind(what + more, why=failure.why, repair=failure.repair)
