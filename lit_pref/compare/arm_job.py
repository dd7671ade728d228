"""The process that trains one arm: anew or from a checkpoint. Knows its folder; nothing of other arms."""

import signal
from pathlib import Path

import yaml

from ..console import say
from ..experiments.failure import Failure
from ..manifest import read_manifest
from ..whole_file import write_text
from .inputs import Inputs
from .jobs import Job
from .planned_arm import PlannedArm
from .run_state import logged, runs_of, state_of

#: What a process ended by these leaves is not its failure to go on from a checkpoint.
KILLED = range(-64, 0)


class ArmJob(Job):
    """Trains one arm.

    Args:
        arm: what to do.
        folder: of its runs.
        inputs: what it reads.
    """

    def __init__(self, arm: PlannedArm, folder: Path, inputs: Inputs) -> None:
        super().__init__(arm.folder, folder / "log.txt")
        self.arm, self.own, self.inputs = arm, folder, inputs
        found = state_of(arm, folder, inputs)
        self.run, self.checkpoint = found.finished, found.checkpoint
        self.resumed = found.checkpoint is not None
        self.before: set[Path] = set()
        if self.run is not None:
            self.state = "done"

    @property
    def config(self) -> Path:
        return self.own / "arm.yaml"

    def write(self) -> None:
        """Put the arm's configuration into its folder."""
        write_text(self.config, yaml.safe_dump(self.arm.config, sort_keys=False, allow_unicode=True))

    def arguments(self) -> list[str]:
        self.write()
        self.before = set(runs_of(self.own))
        return self.words

    @property
    def words(self) -> list[str]:
        """Words of ``lit-pref`` that do what is missing."""
        words = ["fit", "--config", str(self.config)]
        return words if self.checkpoint is None else [*words, "--ckpt_path", str(self.checkpoint)]

    @property
    def current(self) -> Path | None:
        """The run that this job started last."""
        return next((run for run in runs_of(self.own) if run not in self.before), None)

    def ended(self, code: int) -> bool:
        run = self.current
        if self.checkpoint is not None and code not in KILLED and (run is None or not logged(run)):
            return self._anew(code)
        if code == 0 and run is not None and (read_manifest(run) or {}).get("finished"):
            self.state, self.run, self.failure = "done", run, None
        else:
            self.state, self.failure = "failed", failure_of(code, self.log)
        return False

    def _anew(self, code: int) -> bool:
        """Forget the checkpoint: it could not be loaded, or is of a run that was killed after its last step, whose
        last numbers were on their way to the disk."""
        why = Failure.of(code, self.log).reason.splitlines()[:1] if code else ["nothing is left to train after it"]
        say(f"{self.name} does not go on from {self.checkpoint}: {''.join(why)}. It starts anew.")
        self.checkpoint, self.resumed = None, False
        return True


def failure_of(code: int, log: Path) -> Failure:
    """Why a process failed: what its log says, or which signal ended it."""
    if code not in KILLED:
        return Failure.of(code or 1, log)
    memory = ", which is also what a machine does that runs out of memory" if -code == signal.SIGKILL else ""
    return Failure(code, f"It was ended from outside by {signal.Signals(-code).name}{memory}.")
