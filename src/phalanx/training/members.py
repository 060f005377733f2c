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
    job: Job
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
    context = mp.get_context("spawn")
    stop = context.Event()
    queue, running, free = list(jobs), list[_Worker](), list(range(workers))
    slots: dict[int, int] = {}
    failures: dict[Members, _Failure] = {}
    with stop_on_interrupt() as interrupted:
        while queue or running:
            if interrupted():
                stop.set()
                queue.clear()
            while queue and free:
                slot = free.pop(0)
                worker = _start(context, queue.pop(0).on_worker(slot), stop)
                running.append(worker)
                slots[worker.job.members[0]] = slot
            for worker in _receive(running, watch, failures):
                running.remove(worker)
                free.append(slots[worker.job.members[0]])
        was_interrupted = interrupted()
    real = {m: f for m, f in failures.items() if f.kind is not Interrupted}
    _raise_first(real)
    if was_interrupted or failures:
        raise Interrupted(
            "training stopped", repair="the same command with the same --out continues"
        )


def _start(context: Any, job: Job, stop: Any) -> _Worker:
    messages, sender = context.Pipe(duplex=False)
    name = f"member-{'-'.join(map(str, job.members))}"
    process = context.Process(target=_work, args=(job, sender, stop), name=name)
    process.start()
    sender.close()
    return _Worker(job, process, messages)


def _receive(
    running: Sequence[_Worker], watch: Watch, failures: dict[Members, _Failure]
) -> list[_Worker]:
    """Pass on what the workers say; the workers that have ended."""
    ended = []
    ready = wait([worker.messages for worker in running], timeout=POLL_SECONDS)
    for worker in running:
        if worker.messages not in ready:
            continue
        try:
            message: Event | _Failure = worker.messages.recv()
        except EOFError:
            worker.process.join()
            worker.messages.close()
            code = worker.process.exitcode
            if code and worker.job.members not in failures:
                failures[worker.job.members] = _Failure(
                    TrainingError,
                    f"its process ended by signal {-code}" if code < 0 else f"exit code {code}",
                    "another program or the system ended it; what was saved is kept",
                    "run the same command again; --workers 1 needs less memory",
                )
            ended.append(worker)
        else:
            if isinstance(message, _Failure):
                failures[worker.job.members] = message
            else:
                watch(message)
    return ended


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


def _raise_first(failures: dict[Members, _Failure]) -> None:
    for members, failure in failures.items():
        name = f"member {', '.join(map(str, members))}"
        if failure.kind is None:
            raise RuntimeError(f"{name} failed:\n{failure.what}")
        others = len(failures) - 1
        more = f" (and {others} more failed)" if others else ""
        what = failure.what if name in failure.what else f"{name}: {failure.what}"
        raise failure.kind(what + more, why=failure.why, repair=failure.repair)
