"""compare.json: what a comparison is to do and how far it is. Knows a file; starts nothing."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..experiments.stages import contents
from ..whole_file import write_text
from .arm_job import ArmJob
from .options import Options
from .score_job import ScoreJob

RECORD = "compare.json"
FORMAT = 1


class Record:
    """Writes the file, whole, whenever something changed.

    Args:
        out: folder of the comparison.
        options: what was asked for.
        arms: all arms.
        scores: seed -> the scores of its validation pairs.
    """

    def __init__(self, out: Path, options: Options, arms: Sequence[ArmJob], scores: dict[int, ScoreJob]) -> None:
        self.out, self.arms, self.scores = out, arms, scores
        names = list(dict.fromkeys(job.arm.name for job in arms))
        self.plan: dict[str, Any] = {
            "format": FORMAT,
            "lit_pref": __version__,
            "base": [str(Path(path).absolute()) for path in options.configs],
            "base_digest": contents([Path(path).expanduser() for path in options.configs]),
            "overrides": options.overrides,
            "objectives": list(dict.fromkeys(job.arm.objective for job in arms)),
            "grid": options.grid,
            "seeds": options.seeds,
            "names": names,
            "baseline": options.baseline or names[0],
        }

    def write(self) -> None:
        """Put the file in its place."""
        scores = {str(seed): self._relative(job.out) for seed, job in self.scores.items() if job.state == "done"}
        record = {**self.plan, "scores": scores, "arms": [self._line(job) for job in self.arms]}
        write_text(self.out / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    def _line(self, job: ArmJob) -> dict[str, Any]:
        failure = None if job.failure is None else {"code": job.failure.code, "reason": job.failure.reason}
        return {
            "name": job.arm.name, "objective": job.arm.objective, "grid": job.arm.point, "seed": job.arm.seed,
            "folder": self._relative(job.own), "key": job.arm.key, "state": job.state, "resumed": job.resumed,
            "run": None if job.run is None else self._relative(job.run), "failure": failure,
        }  # fmt: skip

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.out)


def write_result(job: ArmJob) -> None:
    """result.json of an arm that is done: which of its runs counts, and what it cost."""
    assert job.run is not None
    record = {"key": job.arm.key, "run": job.run.name, "resumed": job.resumed, "seconds": round(job.seconds, 3)}
    write_text(job.own / "result.json", json.dumps(record, indent=2) + "\n")
