"""What is imported by the time that the quickstart takes its first step."""

import json
import os
import subprocess
import sys
from pathlib import Path

from lit_pref import world

HOME = Path(__file__).resolve().parents[1]
#: Each takes a tenth of a second or more, and no step needs it. (Lightning itself brings torchmetrics, and with it
#: matplotlib and scipy.)
HEAVY = ("aiohttp", "datasets", "deepspeed", "pandas", "peft", "polars", "pyarrow.compute", "pyarrow.dataset", "trl")
#: Packages of other commands.
OTHERS = ("lit_pref.compare", "lit_pref.experiments", "lit_pref.preferences", "lit_pref.report")


def test_nothing_heavy_is_imported_before_the_first_step_of_the_quickstart(tmp_path: Path) -> None:
    file = tmp_path / "moment.json"
    command = [sys.executable, "-m", "lit_pref", "fit", "--config", str(HOME / "configs" / "quickstart.yaml")]
    command += ["--trainer.callbacks+=first_step.FirstStep", f"--trainer.callbacks.file={file}"]
    environment = {**os.environ, "PYTHONPATH": f"{HOME}{os.pathsep}{HOME / 'benchmarks'}"}
    world.resolve("world:agreement")  # building it is not starting up
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = json.loads(file.read_text())["modules"]
    assert "lit_pref.module" in imported
    assert [name for name in (*HEAVY, *OTHERS) if name in imported] == []
