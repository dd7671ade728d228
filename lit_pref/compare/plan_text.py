"""A comparison's plan in words. Knows arms and how far they are; starts nothing."""

from collections.abc import Sequence

from .arm_job import ArmJob


def plan_text(arms: Sequence[ArmJob], at_once: int) -> str:
    """A table of arms and seeds, and what is to be done."""
    names = list(dict.fromkeys(job.arm.name for job in arms))
    seeds = list(dict.fromkeys(job.arm.seed for job in arms))
    states = {(job.arm.name, job.arm.seed): _state(job) for job in arms}
    classes = {job.arm.name: f"{job.arm.objective_class}, {_reference(job)}" for job in arms}
    lines = [["arm", "objective, reference", *(f"seed {seed}" for seed in seeds)]]
    lines += [[name, classes[name], *(states[name, seed] for seed in seeds)] for name in names]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = "\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    return f"{table}\n{_counts(arms, len(names), len(seeds), at_once)}"


def _counts(arms: Sequence[ArmJob], names: int, seeds: int, at_once: int) -> str:
    steps = sorted({job.inputs.steps for job in arms if job.inputs.steps is not None})
    each = f", {' or '.join(f'{count:,}' for count in steps)} optimizer steps each" if steps else ""
    done = sum(job.state == "done" for job in arms)
    resumed = sum(job.resumed for job in arms)
    parts = [f"{done} done before"] * bool(done) + [f"{resumed} to go on from a checkpoint"] * bool(resumed)
    parts.append(f"{len(arms) - done - resumed} to do")
    return f"{names} arms x {seeds} seeds = {len(arms)} runs{each}: {', '.join(parts)}; {at_once} at once."


def failures_text(arms: Sequence[ArmJob]) -> str:
    """The arms that failed, each with the first line of its reason."""
    lines = [f"  {job.name}: {job.failure.reason.splitlines()[0]} (exit {job.failure.code}, {job.log})"
             for job in arms if job.failure is not None and job.failure.reason]  # fmt: skip
    return "\n".join(["Failed:", *lines])


def _state(job: ArmJob) -> str:
    return "done" if job.state == "done" else "go on" if job.resumed else "to do"


def _reference(job: ArmJob) -> str:
    reference = job.arm.config["model"]["reference"]
    return "FrozenModel" if reference is None else str(reference["class_path"]).split(".")[-1]
