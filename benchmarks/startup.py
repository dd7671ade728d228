"""How long `lit-pref fit --config configs/quickstart.yaml` takes to its first step, beside what no program is spared.

    python benchmarks/startup.py

That is: importing Lightning and transformers, and loading the model and the data. Both sides run in fresh processes, by
turns; the world is built before. CPU time (user and system) is what to compare where others use the machine too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from lit_pref import world

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs" / "quickstart.yaml"
#: What the program cannot do without; the times that it prints are of the process, so Python's own start is in them.
SPARED_NOBODY = """
import json, sys, time
import lightning.pytorch
from lightning.pytorch.cli import LightningCLI
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
imported = {"cpu": time.process_time(), "time": time.time()}
AutoTokenizer.from_pretrained(sys.argv[1])
AutoModelForCausalLM.from_pretrained(sys.argv[1])
[json.loads(line) for line in open(sys.argv[2])]
print(json.dumps([imported, {"cpu": time.process_time(), "time": time.time()}]))
"""


class Moment(NamedTuple):
    """Seconds since a process was started."""

    cpu: float
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="of each side")
    runs = parser.parse_args().runs
    model, data = world.resolve("world:agreement"), world.resolve("world:agreement/no-over-never")
    first_step()  # both sides once, uncounted: files are read into memory, and pairs tokenised
    floor(model, data)
    moments: dict[str, list[Moment]] = {"imports": [], "imports, model and data": [], "start to first step": []}
    for _ in range(runs):
        imported, loaded = floor(model, data)
        for name, moment in zip(moments, (imported, loaded, first_step()), strict=True):
            moments[name].append(moment)
    print("| | CPU s | wall s | first step / this, CPU |\n|---|---|---|---|")
    steps = moments["start to first step"]
    for name, found in moments.items():
        ratios = [step.cpu / moment.cpu for step, moment in zip(steps, found, strict=True)]
        columns = [f"{_spread([m.cpu for m in found])}", f"{_spread([m.wall for m in found])}", _spread(ratios)]
        print(f"| {name} | {' | '.join(columns)} |")
    ratio = statistics.median(a.cpu / b.cpu for a, b in zip(steps, moments["imports, model and data"], strict=True))
    print(f"\nstart to first step: {ratio:.1f}x of importing Lightning and transformers and loading model and data")


def floor(model: Path, data: Path) -> tuple[Moment, Moment]:
    """When all is imported, and when the model and the data are loaded too."""
    start = time.time()
    command = [sys.executable, "-c", SPARED_NOBODY, str(model), str(data)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    imported, loaded = (Moment(m["cpu"], m["time"] - start) for m in json.loads(done.stdout))
    return imported, loaded


def first_step() -> Moment:
    """When the first training step begins."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "moment.json"
        command = [sys.executable, "-m", "lit_pref", "fit", "--config", str(CONFIG), "--run.root", folder]
        command += ["--trainer.callbacks+=first_step.FirstStep", f"--trainer.callbacks.file={file}"]
        start = time.time()
        environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        found = json.loads(file.read_text())
    return Moment(found["cpu"], found["time"] - start)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


if __name__ == "__main__":
    main()
