"""A comparison from its plan to its report. Knows the order of things; each of them is a file of this folder."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..console import say
from ..errors import ConfigError
from ..experiments.failure import first_error
from ..manifest import read_manifest
from .arm_job import ArmJob
from .board import Board
from .folder_lock import locked
from .inputs import InputReader
from .jobs import Job, run_jobs
from .options import Options
from .plan_text import failures_text, plan_text
from .planned_arm import PlannedArm
from .planning import Planner
from .record import Record, write_result
from .score_job import ScoreJob


class Comparison:
    """Plans, runs what is missing, and reports.

    Args:
        options: what was asked for.
        planner: made the arms, and reads their configurations.
        arms: all arms.

    Raises:
        PrefError: bad data, or pairs that an objective cannot use.
    """

    def __init__(self, options: Options, planner: Planner, arms: Sequence[PlannedArm]) -> None:
        self.options = options
        self.out = Path(options.out).expanduser().absolute()
        reader = InputReader(planner.fit, quiet=options.print_commands)
        self.arms = [ArmJob(arm, self.out / "arms" / arm.folder, reader.of(arm)) for arm in arms]
        self.scores = self._scores()
        self.record = Record(self.out, options, self.arms, self.scores)

    @property
    def missing(self) -> list[Job]:
        """What is not done: scores first, which are short."""
        jobs: list[Job] = [*dict.fromkeys(self.scores.values()), *self.arms]
        return [job for job in jobs if job.state != "done"]

    def show_plan(self) -> None:
        """Print what there is to do."""
        say(plan_text(self.arms, self.options.jobs))

    def show_commands(self) -> None:
        """Print a shell line for every job that is missing, in an order that works."""
        folder = shlex.quote(str(Path.cwd()))
        for job in self.missing:
            assert isinstance(job, ArmJob | ScoreJob)
            job.write()
            say(f"cd {folder} && {shlex.join(['lit-pref', *job.words])}")

    def run(self) -> None:
        """Run what is missing and write the report.

        Raises:
            PrefError: a run failed, whose exit code it has; the others are kept and in the report.
        """
        with locked(self.out) as lock:
            self.record.write()
            if self.missing:
                with Board(self.arms, self.options.jobs) as board:
                    run_jobs(self.missing, self.options.jobs, lambda job: self._changed(board, job), lock)
            for arm in self.arms:
                if arm.run is not None and not (arm.own / "result.json").exists():
                    write_result(arm)  # of a run that another launcher started
            self.record.write()
            check_alike(self.arms)
            self._report()
        jobs: list[Job] = [*self.arms, *dict.fromkeys(self.scores.values())]
        failed = {job.name: job.failure for job in jobs if job.failure is not None}
        if failed:
            say(failures_text(self.arms))
            raise first_error(failed, len(self.arms))

    def _changed(self, board: Board, job: Job | None) -> None:
        if job is not None:
            if isinstance(job, ArmJob) and job.state == "done":
                write_result(job)
            self.record.write()
        board.changed(job)

    def _scores(self) -> dict[int, ScoreJob]:
        """seed -> the job that scores its validation pairs; seeds that share policy and pairs share it."""
        found: dict[Path, ScoreJob] = {}
        jobs = {}
        for arm in self.arms:
            if arm.inputs.val is not None and arm.arm.seed not in jobs:
                job = ScoreJob(arm.arm, arm.inputs, self.out / "scores")
                jobs[arm.arm.seed] = found.setdefault(job.out, job)
        return jobs

    def _report(self) -> None:
        if not any(arm.run for arm in self.arms):
            say("No run ended well, so there is no report.")
            return
        from ..report.terminal import show  # a second of import
        from ..report.writing import document_of, write_document

        document = document_of([self.out], self.out / "report", self.record.plan["baseline"])
        page = write_document(document, self.out / "report")
        show(document)
        say(f"Report: {page}\nFiles: {self.out}")


def check_alike(arms: Sequence[ArmJob]) -> None:
    """Refuse to compare runs of other pairs, from another policy or measured from another zero, within a seed.

    Raises:
        ConfigError: they differ, by what their manifests say.
    """
    first: dict[int, tuple[ArmJob, dict]] = {}
    zeros: dict[int, tuple[ArmJob, str]] = {}
    for arm in arms:
        manifest = None if arm.run is None else read_manifest(arm.run)
        if manifest is None:
            continue
        other, own = first.setdefault(arm.arm.seed, (arm, manifest))
        for what, key in (("from another policy", "policy"), ("on other data", "data"), ("on other rows", "rows")):
            if manifest.get(key) != own.get(key):
                raise ConfigError(
                    f"{arm.name} was trained {what} than {other.name}, so they cannot be compared: {key} differs in "
                    f"{arm.run}/run.json and {other.run}/run.json.\n  Fix: remove one of the two folders and run the "
                    "command again. All runs are kept."
                )
        zero = manifest.get("zero")
        if zero is None:  # without a reference nothing is displaced; older runs did not write it down
            continue
        first_zero = zeros.setdefault(arm.arm.seed, (arm, zero))
        if zero != first_zero[1]:
            raise _other_zero(arm, first_zero[0])


def _other_zero(arm: ArmJob, other: ArmJob) -> ConfigError:
    return ConfigError(
        f"{arm.name} measures displacement from another model than {other.name}, so they cannot be compared: zero "
        f"differs in {arm.run}/run.json and {other.run}/run.json.\n"
        "  Fix: set the model of model.reference in the shared files alone, or compare in two folders. All runs are "
        "kept."
    )
