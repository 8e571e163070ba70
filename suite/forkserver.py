"""A process that has imported what stages need, and forks one for each stage it is asked for.

Importing torch takes a stage of the smoke tier longer than its work does.  A forked stage is a process of its own as any
other, but its memory begins as its siblings' did: what is measured, and what is to show that equal runs agree, starts in a
fresh interpreter (`runner.launch`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from suite import child, registry, runner

IMPORTS = ("torch._dynamo", "pandas", "suite.meters.timing", "suite.meters.memory", "suite.meters.energy", "suite.meters.size")
TICK = 0.02  #: seconds between looks at who has ended


class ForkServer:
    """Starts stages by `launch`; on leaving, whatever still runs is killed.

    Args:
        task: imported before the first stage, besides `IMPORTS`.
        extra: goes to the stages' environment.
    """

    def __init__(self, task: str, extra: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "suite.forkserver", task],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env={**runner.environment(), **extra},
            )

    def launch(self, arguments: list[str], log: Path) -> Forked:
        """A `runner.Launch`; threads may call it."""
        stdin, alive = os.pipe()
        heard, stdout = os.pipe()
        told, ended = os.pipe()
        with log.open("ab") as file:
            try:
                socket.send_fds(self._control, [json.dumps(arguments).encode()], [stdin, stdout, file.fileno(), ended])
            except OSError:  # the server is gone: the stage reads as killed
                pass
            finally:
                for fd in (stdin, stdout, ended):
                    os.close(fd)
        return Forked(alive, heard, told)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._control.close()
        self._process.wait()


class Forked:
    """A stage's process, as `Popen` would tell of it; it ends when `alive`, its stdin, is closed."""

    def __init__(self, alive: int, stdout: int, told: int) -> None:
        self._alive, self._told = os.fdopen(alive, "wb"), os.fdopen(told, "rb", buffering=0)
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb")
        self.returncode, self._ended = 0, False
        if born := self._told.readline():
            self.pid = int(born)
        else:  # the server is gone
            self.pid, self.returncode, self._ended = 0, -signal.SIGKILL, True

    def poll(self) -> int | None:
        if not self._ended and select.select([self._told], [], [], 0)[0]:
            self.returncode, self._ended = int(self._told.readline() or -signal.SIGKILL), True
        return self.returncode if self._ended else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended and not select.select([self._told], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a forked stage", timeout or 0)
        self.poll()
        return self.returncode


def main(task: str) -> None:
    """Serve until the other end of stdin is closed."""
    for name in IMPORTS:
        importlib.import_module(name)
    registry.task(task)
    gc.collect()
    gc.freeze()  # what was imported is never garbage: a stage need not look through it, nor copy its pages
    living: dict[int, int] = {}  # where to tell that a process has ended
    with socket.socket(fileno=0) as control:
        while True:
            if select.select([control], [], [], TICK if living else None)[0]:
                message, fds, *_ = socket.recv_fds(control, 1 << 16, 4)
                if not message:
                    break
                if not (pid := os.fork()):
                    _stage(json.loads(message), fds, living.values())
                for fd in fds[:3]:
                    os.close(fd)
                living[pid] = fds[3]
                _tell(fds[3], pid)
            for pid in list(living):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    ended = living.pop(pid)
                    _tell(ended, os.waitstatus_to_exitcode(status))
                    os.close(ended)
    for pid in living:
        os.kill(pid, signal.SIGKILL)  # it may not lead its group yet
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _tell(fd: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(fd, f"{number}\n".encode())


def _stage(arguments: list[str], fds: Sequence[int], others: Iterable[int]) -> None:
    """In the forked process: become what `python -m suite.child` is, and end."""
    import numpy as np

    code = 1
    try:
        os.setsid()
        for target, fd in enumerate(fds[:3]):
            os.dup2(fd, target)
        for fd in (*fds, *others):
            os.close(fd)
        np.random.seed()  # as in a fresh interpreter: siblings are not to draw alike by birth
        code = child.main(arguments)
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
