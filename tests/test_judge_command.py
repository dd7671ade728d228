"""`lit-pref judge`: numbers are those of the responses, it goes on where it stopped, bad input is a sentence."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from lit_pref.__main__ import main
from lit_pref.judge_parser import appended
from lit_pref.judges import KeywordJudge

KEY = "sk-very-secret-5555"
N = 20


def response(step: int, number: int) -> str:
    """Refusals that become fewer, hostile text among them."""
    if number % 4 < 2 and not (step and number % 8 == 0):
        return f"I cannot do number {number}. <script>alert({number})</script>"
    return f"Sure, number {number}.\n# Heading\n![x](http://evil.example)"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The files of a run of two evaluations, as RefusalRate leaves them."""
    folder = tmp_path / "version_0"
    folder.mkdir()
    evaluations, responses = [], []
    for step in (0, 10):
        for kind, count in (("prompts", N), ("control", 5)):
            plan = f"{kind}-{step}"
            evaluations.append({"plan": plan, "step": step, "set": kind, "prompts": count, "responses": count})
            for i in range(count):
                text = response(step, i) if kind == "prompts" else "Sure."
                responses.append({"plan": plan, "index": i, "id": None, "sample": 0, "prompt": f"Ask {i} (<b>bold</b>)",
                                  "response": text, "ended": True, "tokens": [1, 2]})  # fmt: skip
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in evaluations))
    (folder / "responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in responses))
    return folder


def judge(run: Path, *args: str, code: int = 0) -> None:
    arguments = ["judge", "--run", str(run), "--cache", str(run.parent / "verdicts.sqlite"), *args]
    if code:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == code
    else:
        main(arguments)


def test_numbers_are_those_of_the_responses(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge(run, "--judges", "KeywordJudge")
    report = json.loads((run / "judged.json").read_text())
    assert [(e["step"], e["set"]) for e in report["evaluations"]] == [
        (0, "prompts"), (0, "control"), (10, "prompts"), (10, "control")
    ]  # fmt: skip
    for evaluation in report["evaluations"]:
        if evaluation["set"] == "prompts":
            refusals = sum("cannot" in response(evaluation["step"], i) for i in range(N))
            found = evaluation["judges"]["keyword_v2"]
            interval = binomtest(refusals, N).proportion_ci(method="wilson")
            assert found["rate"] == pytest.approx(refusals / N)
            assert found["interval"] == pytest.approx([interval.low, interval.high])
            assert found["counts"]["compliance"] == N - refusals
    changed = [i for i in range(N) if response(0, i)[:4] != response(10, i)[:4]]
    said = capsys.readouterr().out
    p = binomtest(0, len(changed)).pvalue
    assert f"difference -{100 * len(changed) // N} points" in said
    assert f"exact McNemar p = {p:.2g}" in said
    assert "0 became refusals, 3 ceased to be" in said
    assert (run / "judged.md").read_text().strip() in said
    lines = [json.loads(line) for line in (run / "judged_verdicts.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * (N + 5)
    assert sum(line["label"] == "refusal" for line in lines) == 10 + 7


def test_two_judges_are_compared_and_texts_stay_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judges = run.parent / "judges.yaml"
    judges.write_text(
        "judges:\n- class_path: lit_pref.judges.KeywordJudge\n"
        "- class_path: lit_pref.judges.KeywordJudge\n  init_args: {phrases: [sure]}\n"
    )
    judge(run, "--config", str(judges), "--out", str(run.parent / "out"))
    report = (run.parent / "out" / "judged.md").read_text()
    second = json.loads((run.parent / "out" / "judged.json").read_text())["judges"][1]
    assert f"keyword_v2 and {second} agree on 0% of 20 responses, kappa -" in report
    assert report.split("## Largest disagreements")[1].count("**prompt ") == 20
    for line in report.splitlines():
        if "<script>" in line or "evil.example" in line or "# Heading" in line or "<b>" in line:
            assert line.startswith("    "), line
    assert not (run / "judged.md").exists()


def test_three_judges_have_one_alpha(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judges = run.parent / "judges.yaml"
    phrases = (["cannot"], ["number 1"], ["sure"])
    judges.write_text(json.dumps({"judges": [
        {"class_path": "KeywordJudge", "init_args": {"phrases": own}} for own in phrases
    ]}))  # fmt: skip
    judge(run, "--config", str(judges), "--canaries=false")
    report = json.loads((run / "judged.json").read_text())
    texts = [response(10, i) for i in range(N)]
    refusals = [sum(bool(re.search(rf"\b{own[0]}\b", text.lower())) for own in phrases) for text in texts]
    observed = sum(k * (3 - k) for k in refusals) / (3 * N)  # of the three pairs of judges, k(3 − k) differ
    total = sum(refusals)
    expected = 2 * total * (3 * N - total) / (3 * N * (3 * N - 1))
    assert report["evaluations"][2]["krippendorff_alpha"]["alpha"] == pytest.approx(1 - observed / expected)
    assert (
        f"All 3 judges on 20 responses: Krippendorff's alpha {1 - observed / expected:.2f} ["
        in (run / "judged.md").read_text()
    )


def calibration_of(folder: Path, judge: KeywordJudge, refusals: list[int], others: list[int], note: str = "") -> str:
    path = folder / "calibration.json"
    one = {"fingerprint": judge.fingerprint, "refusals": refusals, "others": others, "note": note}
    path.write_text(json.dumps({"judges": {"some name": one}}))
    return str(path)


def test_a_corrected_rate_stands_beside_the_rate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = calibration_of(run.parent, KeywordJudge(), [80, 100], [90, 100])
    judge(run, "--judges", "KeywordJudge", "--calibration", path)
    said = capsys.readouterr().out
    found = json.loads((run / "judged.json").read_text())["evaluations"][0]["judges"]["keyword_v2"]
    assert found["rate"] == 0.5
    assert found["corrected"]["rate"] == pytest.approx((0.5 + 0.9 - 1) / (0.8 + 0.9 - 1))
    low, high = found["corrected"]["interval"]
    assert low < found["interval"][0] + 0.1
    assert low < 4 / 7 < high
    assert f"keyword_v2: 50% as judged, 57% [{100 * low:.0f}%, {100 * high:.0f}%] corrected (Rogan-Gladen)." in said
    assert said.count("nothing here can show") == 2
    judge(run, "--judges", "KeywordJudge")
    assert "corrected" not in (run / "judged.md").read_text()


def test_a_rate_is_not_corrected_by_what_does_not_fit_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[KeywordJudge, list[int], str, str]] = [
        (KeywordJudge(["sure"]), [9, 10], "", "not of this judge"),
        (KeywordJudge(), [9, 10], "it is of another world.", "no correction, it is of another world."),
        (KeywordJudge(), [5, 10], "", "no better than chance"),
        (KeywordJudge(), [1, 100], "", "no better than chance"),
        (KeywordJudge(), [990, 1000], "", "as judged, "),
    ]
    for calibrated, counts, note, expected in cases:
        path = calibration_of(run.parent, calibrated, counts, counts, note)
        judge(run, "--judges", "KeywordJudge", "--calibration", path)
        assert expected in capsys.readouterr().out
    judge(run, "--judges", "KeywordJudge", "--calibration", str(run / "responses.jsonl"), code=4)
    assert "no calibration.json" in capsys.readouterr().err


def test_judging_goes_on_where_it_was_interrupted(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, asked = KeywordJudge._one, []

    def interrupted(self: KeywordJudge, text: str) -> Any:
        asked.append(text)
        if len(asked) == N + 4:  # in the second evaluation
            raise KeyboardInterrupt
        return own(self, text)

    monkeypatch.setattr(KeywordJudge, "_one", interrupted)
    judge(run, "--judges=KeywordJudge", "--canaries=false", code=130)
    assert "the same command goes on" in capsys.readouterr().err
    first = len(asked)
    judge(run, "--judges=KeywordJudge", "--canaries=false")
    different = {response(step, i) for step in (0, 10) for i in range(N)}
    assert len(asked) - first <= len(different) + 5 - N, "what was judged is in the cache"
    before = len(asked)
    judge(run, "--judges=KeywordJudge", "--canaries=false")
    assert len(asked) == before


def test_torn_lines_and_missing_responses_are_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "responses.jsonl"
    kept = path.read_text().splitlines()[:-10]  # of the last evaluation
    path.write_text("\n".join(kept) + '\n{"plan": "prompts-10", "ind')
    judge(run, "--judges", "KeywordJudge")
    said = capsys.readouterr().out
    assert "its last line was torn by a kill" in said
    assert "Only 15 of 20 responses were written." in said
    assert "keyword_v2, 15 responses" in said


def test_a_file_of_responses_alone_is_enough(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "evaluations.jsonl").unlink()
    judge(run, "--judges", "KeywordJudge")
    assert "## Plan prompts-0" in capsys.readouterr().out


def test_bad_input_is_a_sentence_and_its_code(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[Path, list[str], int, str]] = [
        (run.parent / "nowhere", ["--judges", "KeywordJudge"], 2, "there is no such folder"),
        (run.parent / "nowhere", [], 2, "there is no such folder"),
        (run.parent, ["--judges", "KeywordJudge"], 4, "name one of its runs: version_0"),
        (run, [], 2, "names no judges"),
        (run, ["--judges", "KeywordJudje"], 2, "KeywordJudge"),
        (run, ["--judges", "KeywordJudge", "--judges.windw", "3"], 2, "Did you mean 'window'"),
        (run, ["--judges", "KeywordJudge", "--judges.window", "-3"], 2, "give a positive number"),
        (run, ["--judges", "KeywordJudge", "--max_abstain", "3"], 2, "share from 0 to 1"),
        (run, ["--judges", "KeywordJudge", "--device", "abacus"], 2, "abacus"),
        (run, ["--config", str(run / "nothing.yaml")], 2, "nothing.yaml"),
    ]
    for folder, arguments, code, expected in cases:
        judge(folder, *arguments, code=code)
        error = capsys.readouterr().err
        assert error.startswith("error: "), (arguments, error)
        assert expected in error, (arguments, error)
        assert "Traceback" not in error
    (run / "responses.jsonl").write_text("not a line\n" + (run / "responses.jsonl").read_text())
    judge(run, "--judges", "KeywordJudge", code=4)
    assert "responses.jsonl:1" in capsys.readouterr().err
    assert not (run / "judged.md").exists()


def test_lists_of_judges_on_the_command_line() -> None:
    assert appended(["--run", "x", "--judges", "A", "b.C", "--judges.n", "3", "--judges=D"]) == [
        "--run", "x", "--judges+=A", "--judges+=b.C", "--judges.n", "3", "--judges+=D"
    ]  # fmt: skip


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as a judge makes."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.keys: set[str | None] = set()


class Handler(BaseHTTPRequestHandler):
    """Says 0, a refusal, of what "cannot" be done, else 1."""

    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers["Authorization"])
        label = "0" if "I cannot do" in json.dumps(body["messages"]) else "1"
        choice = {"message": {"role": "assistant", "content": label}, "finish_reason": "stop"}
        raw = json.dumps({"model": body["model"], "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def server() -> Iterator[Callable[[int], Server]]:
    made: list[Server] = []

    def serve(port: int) -> Server:
        found = Server(port)
        threading.Thread(target=found.serve_forever, daemon=True).start()
        made.append(found)
        return found

    yield serve
    for one in made:
        one.shutdown()
        one.server_close()


def test_a_run_whose_endpoint_was_dead_is_judged_when_it_lives(
    run: Path, server: Callable[[int], Server], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The judges are those of the run's own config.yaml."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    probe = Server(0)
    port = probe.server_address[1]
    probe.server_close()
    arguments = f"url: http://127.0.0.1:{port}/v1, model: m, key_env: JUDGE_KEY, deadline_s: 2.0, backoff_s: 0.01"
    (run / "config.yaml").write_text(
        "trainer:\n  callbacks:\n  - class_path: callbacks.RefusalRate\n    init_args:\n      prompts: x\n"
        f"      judges:\n      - class_path: lit_pref.judges.EndpointJudge\n        init_args: {{{arguments}}}\n"
    )
    judge(run, "--canaries=false")
    report = json.loads((run / "judged.json").read_text())
    (name,) = report["judges"]
    assert all(e["judges"][name]["counts"]["error"] == e["responses"] for e in report["evaluations"])
    assert "| – | – | [0%, 100%] | – | – |" in (run / "judged.md").read_text()
    live = server(port)
    judge(run, "--canaries=false")
    report = json.loads((run / "judged.json").read_text())
    assert report["evaluations"][0]["judges"][name]["rate"] == pytest.approx(0.5)
    assert report["evaluations"][2]["judges"][name]["rate"] == pytest.approx(0.35)
    assert live.keys == {f"Bearer {KEY}"}
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    for path in run.parent.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
