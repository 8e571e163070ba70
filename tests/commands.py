"""`weighin` in a forked process: a fresh interpreter imports torch for longer than most commands take.

What begins with the interpreter (which folders it finds packages in, what it imports) is no matter of such a process; the
stages that a command starts have interpreters of their own, as ever.
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.standins.stages import context


def forked_command(*words: str, folder: Path, **environment: str) -> BaseProcess:
    """A started process that runs a command where a folder is; what it prints goes into ``stdout`` and ``stderr`` there."""
    process: BaseProcess = context().Process(target=_run, args=(words, folder, environment))
    process.start()
    return process


def _run(words: tuple[str, ...], folder: Path, environment: dict[str, str]) -> None:
    from suite import cli

    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["weighin", *words]
    cli.main()
