"""A stand-in for processes of ``lit-pref``: forks, which have imported everything. Knows how processes end."""

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from lit_pref.__main__ import main


class Forked:
    """Stands in for a process of its own: the same command in a fork of this one, which need not import it all."""

    started: list[list[str]] = []  # noqa: RUF012
    kill_at: str | None = None  # part of a command; such a process is killed once it has left a checkpoint

    def __init__(self, words: list[str], stdout: Any, env: dict[str, str], **_: Any) -> None:
        self.words = words[3:]
        Forked.started.append(self.words)
        self.code: int | None = None
        # A signal that came before the child has handlers of its own would go on with this process's tests in it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        self.pid = os.fork()
        if not self.pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os._exit(self._command(stdout, env))
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _command(self, stdout: Any, env: dict[str, str]) -> int:
        code: Any = 1
        os.environ.clear()
        os.environ.update(env)
        sys.stdout = sys.stderr = open(os.dup(stdout.fileno()), "w")  # noqa: SIM115
        try:
            main(self.words)
            code = 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        return int(code)

    def poll(self) -> int | None:
        if self.code is None:
            self._maybe_kill()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def _maybe_kill(self) -> None:
        chosen = Forked.kill_at and self.words[0] == "fit" and Forked.kill_at in self.words[2]
        if chosen and list(Path(self.words[2]).parent.glob("version_*/checkpoints/last.ckpt")):
            Forked.kill_at = None
            self.kill()

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (60 if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.words, timeout or 0)
            time.sleep(0.01)
        assert self.code is not None
        return self.code
