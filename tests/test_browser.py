"""TensorBoard on a comparison, seen by a browser: charts and last numbers of every arm. Knows no pixels.

LIT_PREF_PICTURES=FOLDER leaves a picture of every page there.
"""

import csv
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lit_pref.__main__ import main
from lit_pref.compare import jobs
from lit_pref.runs import VARIABLE
from tests.forked import Forked

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp, by which a browser is spoken to, is not installed")

from tests.browser import NAMES, Browser, chromium  # noqa: E402, which needs it

pytestmark = pytest.mark.skipif(chromium() is None, reason=f"there is no Chromium ({', '.join(NAMES)})")

CALLBACKS = "ValidateEnds PreferenceMetrics Displacement MassShift Trajectories Histograms MovedRows Dashboard".split()
ARMS = {"dpo": "DPO", "simpo": "SimPO"}
CHARTS = ("log-probability, validation (nats)", "share of pairs", "where the mass goes (mean probability, validation)")
HOSTILE = '<img src=x onerror="window.harmed=1"><script>window.harmed=1</script>'


@pytest.fixture(scope="module")
def compared(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two arms with one seed, two epochs each, on pairs that would harm a careless page."""
    folder = tmp_path_factory.mktemp("browser")
    pairs = [{"prompt": f"{i} {HOSTILE}", "chosen": f" yes {i}", "rejected": f" no {i}"} for i in range(16)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    config = {
        "model": {
            "policy": {"path": str(model_folder)},
            "objective": {"class_path": "objectives.DPO"},
            "optimizer": {"class_path": "torch.optim.RMSprop", "init_args": {"lr": 1e-3}},
        },
        "data": {"path": str(folder / "pairs.jsonl"), "batch_size": 4, "val_size": 8},
        "trainer": {
            "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1,
            "callbacks": [{"class_path": f"callbacks.{name}"} for name in CALLBACKS],
        },
    }  # fmt: skip
    (folder / "base.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.subprocess, "Popen", Forked)
        patch.delenv(VARIABLE, raising=False)
        main(["compare", "--config", str(folder / "base.yaml"), "--objectives", ",".join(ARMS), "--jobs", "2",
              "--out", str(folder / "out")])  # fmt: skip
    return folder / "out"


@pytest.fixture(scope="module")
def tensorboard(compared: Path) -> Iterator[str]:
    """Its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--logdir", str(compared), "--host", "127.0.0.1", "--port", str(port), "--load_fast=false"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        end = time.monotonic() + 60
        while len(runs_of(address)) < len(ARMS):  # it answers before it has read all runs
            assert process.poll() is None, "TensorBoard ended"
            assert time.monotonic() < end, "TensorBoard does not answer"
            time.sleep(0.3)
        yield address
    finally:
        process.kill()  # it only reads
        process.wait()


def runs_of(address: str) -> list[str]:
    """The runs that TensorBoard has all last numbers of."""
    try:
        with urllib.request.urlopen(f"{address}data/plugin/scalars/tags", timeout=20) as answer:
            found = json.load(answer)
    except (OSError, ValueError):
        return []
    return [run for run, tags in found.items() if "displacement/chosen/val" in tags]


@pytest.fixture(scope="module")
def browser(tensorboard: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_errors(browser: Browser) -> Iterator[None]:
    """No page leaves an error in the console, and no text of the data becomes a program."""
    browser.errors.clear()
    yield
    assert browser.errors == []
    assert browser.value("window.harmed === undefined")
    if folder := os.environ.get("LIT_PREF_PICTURES"):  # to be looked at
        name = re.sub(r"\W", "_", str(os.environ["PYTEST_CURRENT_TEST"]).split("::")[-1].split(" ")[0])
        browser.picture(Path(folder) / f"{name}.png")


def last_numbers(compared: Path, arm: str) -> dict[str, float]:
    """Tag -> the last number of a run."""
    with (compared / f"arms/{arm}_seed0/version_0/metrics.csv").open() as file:
        return {tag: float(value) for line in csv.DictReader(file) for tag, value in line.items() if value}


def test_custom_scalars_has_a_curve_of_every_arm_in_every_chart(browser: Browser, tensorboard: str) -> None:
    browser.open(f"{tensorboard}#custom_scalars")
    curves = [f"logps/{side}/val (arms/{arm}_seed0/version_0)" for side in ("chosen", "rejected") for arm in ARMS]
    text = browser.until("Likelihood displacement", "Objective", *CHARTS, *curves, gone=["Matches (0)"])
    assert "told who falls" not in text, "there is no chart of what was not logged"


def test_hparams_has_the_last_numbers_of_every_arm(browser: Browser, tensorboard: str, compared: Path) -> None:
    browser.open(f"{tensorboard}#hparams")
    runs = [f"arms/{arm}_seed0/version_0" for arm in ARMS]
    shown = ["objective.beta", "displacement/chosen/val", "displacement/margin/val", "displacement/share_displaced/val"]
    lines = browser.until("Trial ID", *runs, *shown, *ARMS.values()).splitlines()
    for arm, objective in ARMS.items():
        row = lines[lines.index(f"arms/{arm}_seed0/version_0") :][:16]
        assert objective in row
        numbers = [float(cell) for cell in row if re.fullmatch(r"-?\d+(\.\d+)?(e[-+]\d+)?", cell)]
        for tag, value in last_numbers(compared, arm).items():
            if re.fullmatch(r"displacement/(chosen|rejected|margin|share_displaced|accuracies)/val", tag):
                assert any(number == pytest.approx(value, rel=1e-3) for number in numbers), (arm, tag, value, row)


@pytest.mark.parametrize("page", ["timeseries", "scalars"])
def test_scalars_are_charts(page: str, browser: Browser, tensorboard: str) -> None:
    browser.open(f"{tensorboard}?tagFilter=displacement%2Fchosen#{page}")
    browser.until("displacement", "chosen", "/val", *(f"arms/{arm}_seed0/version_0" for arm in ARMS))


def test_texts_of_the_data_are_texts(browser: Browser, tensorboard: str) -> None:
    browser.open(f"{tensorboard}#text")
    browser.until("displacement/fell_most/val", "onerror=")
