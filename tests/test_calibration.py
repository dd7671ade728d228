"""Judges on labelled rows: the shipped set is what it says, figures are those of closed forms, bad rows sentences."""

import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import binomtest

from lit_pref.__main__ import main
from lit_pref.data.rows import DataError
from lit_pref.judged_text import block, corrected_words
from lit_pref.judges import Item, Judge, KeywordJudge, Verdict, nominal_alpha, rogan_gladen
from lit_pref.judges.correction import Corrected, Errors, corrected, read_errors
from lit_pref.judges.labelled_rows import SHIPPED, read_labelled

ROOT = Path(__file__).resolve().parents[1]


# The shipped set


def test_the_shipped_rows() -> None:
    rows = read_labelled()
    assert len(rows) == 200
    assert Counter(row.label for row in rows) == {"refusal": 90, "compliance": 80, "partial": 30}
    for texts in ([r.id for r in rows], [r.item.prompt for r in rows], [r.item.response for r in rows]):
        assert len(set(texts)) == 200
    counts = Counter(row.kind for row in rows)
    assert all(8 <= count <= 22 for count in counts.values()), counts
    assert all(re.fullmatch(rf"{row.kind}-\d\d", row.id) for row in rows)


def test_no_two_shipped_responses_are_one_template() -> None:
    """Of any two, fewer than half of the words of the shorter one are shared by place or by set."""
    words = [set(re.findall(r"\w{4,}", row.item.response.casefold())) for row in read_labelled()]
    long = [found for found in words if len(found) > 5]
    alike = [(a, b) for i, a in enumerate(long) for b in long[:i] if len(a & b) > 0.5 * min(len(a), len(b))]
    assert not alike


def test_shipped_rows_name_nobody_and_no_address() -> None:
    for row in read_labelled():
        text = f"{row.item.prompt}\n{row.item.response}"
        assert not re.search(r"https?:|www\.|@|\.(com|org|net)\b|\d{6,}", text), row.id
        if row.kind != "other-language":  # a first and a last name
            assert not re.search(r"[a-z,] [A-Z][a-z]+ [A-Z][a-z]{2,}\b(?!')", text.replace("'The Early Crumb'", "")), (
                row.id
            )


def test_the_licence_and_the_rule_are_said_and_the_files_are_shipped() -> None:
    said = SHIPPED.with_suffix(".md").read_text()
    assert "Licence: CC-BY-4.0" in said
    assert "November 2026" in said
    assert "no second annotator" in said
    for label, count in Counter(row.label for row in read_labelled()).items():
        assert f"`{label}` {count}" in said
        assert f"- `{label}`:" in said
    assert '"calibration.jsonl", "calibration.md"' in (ROOT / "pyproject.toml").read_text()


# Agreement of many


#: Of Krippendorff 2011: four observers with twelve units, and (on the web) three coders with fifteen.
CLASSIC = """
1 2 3 3 2 1 4 1 2 * * *
1 2 3 3 2 2 4 1 2 5 * 3
* 3 3 3 2 3 4 2 2 5 1 *
1 2 3 3 2 4 4 1 2 5 1 *
"""
THREE_CODERS = """
* * * * * 3 4 1 2 1 1 3 3 * 3
1 * 2 1 3 3 4 3 * * * * * * *
* * 2 1 3 4 4 * 2 1 1 3 3 * 4
"""


def raters(table: str) -> list[list[str | None]]:
    return [[None if value == "*" else value for value in line.split()] for line in table.split("\n") if line]


def slow_alpha(judges: Sequence[Sequence[Any]]) -> float:
    """Pair by pair, as the definition has it."""
    units = [[v for v in unit if v is not None] for unit in zip(*judges, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    values = [v for unit in units for v in unit]
    n = len(values)
    observed = sum(sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / n
    expected = sum(a != b for a, b in permutations(values, 2)) / (n * (n - 1))
    return 1 - observed / expected


@pytest.mark.parametrize(("table", "published", "n"), [(CLASSIC, 0.743, 11), (THREE_CODERS, 0.691, 12)])
def test_alpha_is_the_published_one(table: str, published: float, n: int) -> None:
    found = nominal_alpha(raters(table))
    assert found.alpha == pytest.approx(published, abs=5e-4)
    assert found.alpha == pytest.approx(slow_alpha(raters(table)))
    assert found.n == n
    assert found.interval.low < found.alpha <= found.interval.high
    assert nominal_alpha(raters(table)) == found


def test_alpha_leaves_abstentions_out() -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(["refusal", "compliance", "partial"], 60)
    said = [[t if rng.random() < 0.7 else "refusal" for t in truth] for _ in range(4)]
    with_gaps = [[None if rng.random() < 0.3 else label for label in judge] for judge in said]
    found = nominal_alpha(with_gaps)
    assert found.alpha == pytest.approx(slow_alpha(with_gaps))
    abstaining = [[rng.choice(["error", "unparseable"]) if x is None else x for x in judge] for judge in with_gaps]
    assert nominal_alpha(abstaining) == found
    units = list(zip(*with_gaps, strict=True))
    draws = [slow_alpha(list(zip(*(units[i] for i in rng.integers(0, 60, 60)), strict=True))) for _ in range(400)]
    assert found.interval == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.05)


def test_alpha_where_it_is_not_defined() -> None:
    assert math.isnan(nominal_alpha([["refusal"] * 3] * 3).alpha)
    assert nominal_alpha([["refusal", "error"], ["error", "refusal"]])[2] == 0
    assert nominal_alpha([["refusal", "compliance"]] * 3).alpha == 1


# Correction


def test_the_corrected_interval_covers_the_truth() -> None:
    """Simulated: draw rate, calibration and responses, and count how often 95% are 95%."""
    rng = np.random.default_rng(0)
    truth, sensitivity, specificity = 0.6, 0.9, 0.85
    covered = 0
    for seed in range(200):
        refusals = rng.binomial(120, truth * sensitivity + (1 - truth) * (1 - specificity))
        errors = Errors((int(rng.binomial(90, sensitivity)), 90), (int(rng.binomial(110, specificity)), 110))
        low, high = corrected(int(refusals), 120, errors, seed).interval
        covered += low <= truth <= high
    assert 0.9 < covered / 200 < 0.995


def test_a_correction_says_what_it_can_not_say() -> None:
    good = corrected(300, 1000, Errors((90, 100), (85, 100)))
    assert good.rate == pytest.approx(rogan_gladen(0.3, 0.9, 0.85)) == pytest.approx(0.2)
    assert "30% as judged, 20% [" in corrected_words("j", 0.3, good)
    blind = corrected(300, 1000, Errors((50, 100), (50, 100)))
    assert math.isnan(blind.rate)
    assert "no better than chance" in corrected_words("j", 0.3, blind)
    few = corrected(3, 10, Errors((3, 5), (3, 5)))
    assert math.isnan(few.interval.low)
    assert "could be anything" in corrected_words("j", 0.3, few)
    other = corrected(890, 1000, Errors((33, 90), (92, 110)))  # no judge of this sensitivity says 89%
    assert other == Corrected(pytest.approx(math.nan, nan_ok=True), other.interval, False)
    assert "no rate would be seen as 89%" in corrected_words("j", 0.89, other)
    assert math.isnan(corrected(0, 0, Errors((9, 10), (9, 10))).rate)


# The command


class Sums(Judge):
    """Says what no text decides: refusals, compliances, partial ones, and nothing on some rows."""

    name = "sums"

    def facts(self) -> dict[str, Any]:
        return {"judge": "sums"}

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        labels: Any = ["refusal", "compliance", "compliance", "refusal", "partial", "unparseable", "error", "refusal"]
        found = [sum(item.response.encode()) % len(labels) for item in items]
        return [self.verdict(labels[i], score=0.5 + i / 20) for i in found]


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIT_PREF_CACHE", str(tmp_path / "cache"))


def calibrate(*args: str, code: int = 0) -> None:
    if code:
        with pytest.raises(SystemExit) as caught:
            main(["calibrate", *args])
        assert caught.value.code == code
    else:
        main(["calibrate", *args])


def kappa(pairs: list[tuple[str, str]]) -> float:
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    expected = sum(sum(a == k for a, _ in pairs) * sum(b == k for _, b in pairs) for k in {x for p in pairs for x in p})
    return (observed - expected / n**2) / (1 - expected / n**2)


def test_numbers_are_those_of_the_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "judges.yaml"
    config.write_text(yaml.safe_dump({"judges": [
        {"class_path": f"{__name__}.Sums"},
        {"class_path": "KeywordJudge"},
        {"class_path": "lit_pref.judges.KeywordJudge", "init_args": {"phrases": ["sorry"]}},
    ]}))  # fmt: skip
    sys.modules.setdefault(__name__, sys.modules[Sums.__module__])
    calibrate("--config", str(config), "--out", str(tmp_path / "out"), "--show", "5")
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert list(report["judges"])[:2] == ["sums", KeywordJudge().name]
    rows, found = read_labelled(), report["judges"]["sums"]
    labels = [v.label for v in Sums().judge([row.item for row in rows])]
    judged = [(a, row.label) for a, row in zip(labels, rows, strict=True) if a not in ("error", "unparseable")]
    assert (found["unparseable"], found["error"]) == (labels.count("unparseable"), labels.count("error"))
    assert min(found["unparseable"], found["error"]) > 0
    refusing = [(str(a == "refusal"), str(b == "refusal")) for a, b in judged]
    assert found["agreement"]["kappa"] == pytest.approx(kappa(judged))
    assert found["agreement_on_refusing"]["kappa"] == pytest.approx(kappa(refusing))
    assert found["agreement"]["raw"] == pytest.approx(sum(a == b for a, b in judged) / len(judged))
    for side, share, truth in (("refusals", "sensitivity", "True"), ("others", "specificity", "False")):
        right, n = sum(a == b == truth for a, b in refusing), sum(b == truth for _, b in refusing)
        interval = binomtest(right, n).proportion_ci(method="wilson")
        assert found[side] == [right, n]
        assert found[share] == pytest.approx(right / n)
        assert found[f"{share}_interval"] == pytest.approx([interval.low, interval.high])
    kinds = {kind: [0, 0] for kind in {row.kind for row in rows}}
    for label, row in zip(labels, rows, strict=True):
        if label not in ("error", "unparseable"):
            kinds[row.kind][0] += (label == "refusal") == (row.label == "refusal")
            kinds[row.kind][1] += 1
    assert found["kinds"] == kinds
    assert len(found["differing"]) == sum(a != b for a, b in judged)
    assert len(report["pairs"]) == 3
    every = [
        [v.label for v in j.judge([r.item for r in rows])] for j in (Sums(), KeywordJudge(), KeywordJudge(["sorry"]))
    ]
    gaps = [[None if x in ("error", "unparseable") else x for x in judge] for judge in every]
    assert report["krippendorff_alpha"]["alpha"] == pytest.approx(slow_alpha(gaps))
    assert f"Krippendorff's alpha {slow_alpha(gaps):.2f} [" in said
    assert said.count("judged ") == 15
    assert (tmp_path / "out" / "calibration.md").read_text().strip() in said
    surest = [line for line in said.splitlines() if "probability" in line and "partial" not in line]
    shown = [float(re.findall(r"probability ([\d.]+)", line)[0]) for line in surest]
    assert shown == sorted(shown, reverse=True)


def test_rows_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run's responses.jsonl with labels added will do."""
    rows = tmp_path / "mine.jsonl"
    lines = [
        {
            "plan": "a",
            "index": 0,
            "sample": 0,
            "tokens": [1],
            "prompt": "a",
            "response": "I cannot.",
            "label": "refusal",
        },
        {"prompt": [{"role": "user", "content": "b"}], "response": "Sure", "label": "compliance", "kind": "x|y"},
        {"prompt": "c", "response": "I won't \x1b[31m\u202e", "label": "compliance", "id": "evil\x1b[2J"},
    ]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    calibrate("--judges", "KeywordJudge", "--rows", str(rows))
    said = capsys.readouterr().out
    assert "3 rows of " in said
    assert "100% [21%, 100%]" in said
    assert "50% [9%, 91%]" in said
    assert "shipped" not in said
    assert "x\\|y" in said
    assert "\x1b" not in said
    assert "\u202e" not in said


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"prompt": "p", "response": "r", "label": "refused"}', 'mine.jsonl:2: label is "refused"'),
        ('{"prompt": "p", "response": "r", "label": ["refusal"]}', "mine.jsonl:2: label is"),
        ('{"prompt": "p", "response": "r"}', "mine.jsonl:2: label is null"),
        ('{"prompt": "p", "response": " ", "label": "refusal"}', "mine.jsonl:2: response is"),
        ('{"prompt": 3, "response": "r", "label": "refusal"}', "mine.jsonl:2: prompt is 3"),
        ('{"prompt": "a", "response": "b", "label": "compliance"}', "mine.jsonl:2: the same prompt and response as"),
        ("{", "mine.jsonl:2"),
    ],
)
def test_bad_rows_are_named(line: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"prompt": "a", "response": "b", "label": "refusal"}\n' + line + "\n")
    calibrate("--judges", "KeywordJudge", "--rows", str(rows), code=4)
    error = capsys.readouterr().err
    assert sentence in error
    assert "Fix: " in error


def test_bad_options_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[list[str], int, str]] = [
        ([], 2, "name one"),
        (["--judges", "KeywordJudge", "--show=-1"], 2, "show is -1"),
        (["--judges", "KeywordJudje"], 2, "KeywordJudge"),
        (["--judges", "KeywordJudge", "--rows", str(tmp_path / "nothing.jsonl")], 4, "Nothing was judged"),
        (["--judges", "KeywordJudge", "--out", "/dev/null/x"], 5, "cannot be written"),
        (["--judges", "KeywordJudge", "--shwo", "3"], 2, "Did you mean 'show'"),
    ]
    for arguments, code, expected in cases:
        calibrate(*arguments, code=code)
        error = capsys.readouterr().err
        assert error.startswith("error: ") or "Judging" in error, arguments
        assert expected in error, (arguments, error)
        assert "Traceback" not in error


def test_the_worlds_judge_makes_no_claim_about_english() -> None:
    from lit_pref.calibrated_judges import CalibratedJudges

    class Tiny(Sums):
        model = "world:judge"

    made = CalibratedJudges([Tiny(), Sums()])
    made._judge()
    report = made._report({})
    assert "**Do not read the numbers of sums**: it reads the tiny world's language alone" in report
    assert report.count("Do not read") == 1


def test_a_calibration_is_read_back_and_others_are_refused(tmp_path: Path) -> None:
    calibrate("--judges", "KeywordJudge", "--out", str(tmp_path))
    errors = read_errors(tmp_path / "calibration.json")
    labels = {row.item: row.label for row in read_labelled()}
    found = [item for item in labels if KeywordJudge().judge([item])[0].label == "refusal"]
    hits = sum(labels[item] == "refusal" for item in found)
    assert errors == {KeywordJudge().fingerprint: Errors((hits, 90), (110 - len(found) + hits, 110), "")}
    broken = tmp_path / "broken.json"
    for text in ("{", "[]", '{"judges": {"a": {}}}', '{"judges": {"a": {"fingerprint": "f", "refusals": [3, 2]}}}'):
        broken.write_text(text)
        with pytest.raises(DataError, match="no calibration.json"):
            read_errors(broken)
    with pytest.raises(DataError, match="cannot be read"):
        read_errors(tmp_path / "nowhere.json")


@pytest.mark.parametrize("arguments", ["calibrate --help", "calibrate --judges KeywordJudge --show 0", "judge --help"])
def test_phrases_do_not_wait_for_torch(arguments: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom lit_pref.__main__ import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    assert not end.code\nsys.exit(len({'torch', 'transformers', 'lightning', 'datasets'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_what_a_model_wrote_cannot_steer_a_terminal() -> None:
    assert block("a\x1b[2J\tb\u202ec\r\nd") == "    a\\x1b[2J\tb\\x202ec\n    d"
    assert block("naïve 😀 \u00a0«x»") == "    naïve 😀 \u00a0«x»"
