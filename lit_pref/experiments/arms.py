"""Runs of the command line as processes of their own: finished ones are skipped, failed ones are named.

Knows command lines and folders; nothing about what an arm trains or measures. Imports no torch.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..console import counting, say
from ..whole_file import write_text
from .failure import Failure

RESULT = "result.json"
LOG = "log.txt"


@dataclass(frozen=True)
class Arm:
    """One run.

    Attributes:
        name: of its folder; also of its line in a table.
        config: what ``lit-pref fit`` is told, without the run's folder.
        inputs: names the content of the files that the arm reads.
    """

    name: str
    config: dict[str, Any]
    inputs: str = ""

    @property
    def key(self) -> str:
        """A name for what would be done; another configuration is another run, and so are other inputs."""
        return hashlib.sha256(json.dumps([self.config, self.inputs], sort_keys=True).encode()).hexdigest()[:16]


def run_arms(
    arms: Sequence[Arm], folder: Path, read: Callable[[Path], dict[str, Any]], jobs: int
) -> tuple[dict[str, dict[str, Any]], dict[str, Failure]]:
    """Run every arm that has no result yet.

    Args:
        arms: what to run.
        folder: each arm has a folder there, named as the arm, with its log, its run and its result.
        read: gives the result of a run's folder, plain values only.
        jobs: how many run at once.

    Returns:
        name -> result of the arms that ended well, and name -> failure of those that did not.
    """
    done = {arm.name: result for arm in arms if (result := _finished(arm, folder)) is not None}
    if done:
        say(f"{len(done):,} of {len(arms):,} arms were done before.")
    failed: dict[str, Failure] = {}
    left = [arm for arm in arms if arm.name not in done]
    with counting("Arms", len(arms)) as advance, ThreadPoolExecutor(jobs) as pool:
        advance(len(done))
        for arm, outcome in zip(left, pool.map(lambda arm: _run(arm, folder, read, jobs), left), strict=True):
            if isinstance(outcome, Failure):
                failed[arm.name] = outcome
                say(f"{arm.name} failed; see {folder / arm.name / LOG}")
            else:
                done[arm.name] = outcome
            advance(1)
    return {arm.name: done[arm.name] for arm in arms if arm.name in done}, failed


def command(arguments: Sequence[str], log: Path, threads: int | None = None) -> int:
    """Run ``lit-pref`` with these arguments, its output in a log; returns its exit code."""
    environment = dict(os.environ)
    environment.pop("LIT_PREF_RUN_DIR", None)
    if threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        return subprocess.call(
            [sys.executable, "-m", "lit_pref", *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment
        )


def _finished(arm: Arm, folder: Path) -> dict[str, Any] | None:
    try:
        result = json.loads((folder / arm.name / RESULT).read_text())
    except (OSError, ValueError):
        return None
    return result["values"] if result.get("key") == arm.key else None


def _run(arm: Arm, folder: Path, read: Callable[[Path], dict[str, Any]], jobs: int) -> dict[str, Any] | Failure:
    """The arm's result, or why there is none."""
    own = folder / arm.name
    own.mkdir(parents=True, exist_ok=True)
    config = own / "arm.yaml"
    config.write_text(yaml.safe_dump({**arm.config, "run": {"root": str(folder), "name": arm.name}}, sort_keys=False))
    threads = max((os.cpu_count() or 1) // jobs, 1) if jobs > 1 else None
    before = set(own.glob("version_*"))
    if code := command(["fit", "--config", str(config)], own / LOG, threads):
        return Failure.of(code, own / LOG)
    (run,) = set(own.glob("version_*")) - before
    values = read(run)
    write_text(own / RESULT, json.dumps({"key": arm.key, "run": str(run), "values": values}))
    return values
