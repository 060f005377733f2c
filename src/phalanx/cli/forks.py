"""Further ``phalanx`` commands, forked from a server that has loaded torch once.

A command of a second in a grid of hundreds would spend three on imports. What one held is given
back when it ends, and a crash ends it alone, as with any process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from threading import Thread

PRELOADED = ["torch.export._trace", "phalanx.cli.certify"]
"""Nothing here may compute: threads and GPUs do not survive a fork."""


def run_command(words: Sequence[str]) -> int:
    """Run ``phalanx`` with these words, its answer on stdout dropped; the exit code.

    >>> run_command(["--version"])
    0
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        command = [sys.executable, "-m", "phalanx.cli.main", *words]
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_command, args=(tuple(words),))
    process.start()
    process.join()
    return process.exitcode or 0


def _command(words: Sequence[str]) -> None:
    from phalanx.cli.main import main

    # A job in the background inherits that interrupts are ignored, and would outlive its parent.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Thread(target=_interrupted_without_parent, daemon=True).start()
    sys.argv = ["phalanx", *words]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    main()


def _interrupted_without_parent() -> None:
    """Interrupt this command when who asked for it is gone: nobody else would end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)
