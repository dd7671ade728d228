"""A comparison from its plan to its report. Knows the order of things; each of them is a file of this folder."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..console import say
from ..experiments.failure import first_error
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
