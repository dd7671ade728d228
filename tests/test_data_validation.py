"""Validation: which rows become pairs, which do not and why, and that the counts always add up.

The D numbers are those of the catalogue of bad inputs the validator is built against.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lit_pref.data.columns import Columns
from lit_pref.data.excerpts import LIMIT, excerpt
from lit_pref.data.fields import Policy
from lit_pref.data.reading import read
from lit_pref.data.report import RowReport
from lit_pref.data.rows import DataError, Problem, Record, Row
from lit_pref.data.validation import validate

REAL = Path(__file__).parents[1].parent / "shared" / "data"
HH = REAL / "hh-harmless-base-test.jsonl.gz"
PERSONA = REAL / "persona-ends-justify-means.jsonl"
needs_real_data = pytest.mark.skipif(not HH.exists(), reason=f"the real data is not at {REAL}")

GOOD = {"prompt": "p", "chosen": "yes", "rejected": "no"}
ASK = {"role": "user", "content": "hi"}
HUMAN = "\n\nHuman: hi\n\nAssistant:"


def say(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


CHAT = {"chosen": [ASK, say("yes")], "rejected": [ASK, say("no")]}


def check(*rows: dict[str, Any], columns: Columns | None = None, **policy: Any) -> list[Row | Problem]:
    source = [Record(n, f"f.jsonl:{n + 1}", row) for n, row in enumerate(rows)]
    return list(validate(source, columns, Policy(**policy)))


def kept(*rows: dict[str, Any], **options: Any) -> list[Row]:
    return [item for item in check(*rows, **options) if isinstance(item, Row)]


def found(*rows: dict[str, Any], **options: Any) -> list[Problem]:
    return [item for item in check(*rows, **options) if isinstance(item, Problem)]


def but(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**base, **changes}


# --- one bad row between good ones: good row, bad row, case, field, fragments of the message --------------

TEXT_PAIR = {"chosen": f"{HUMAN} yes", "rejected": f"{HUMAN} no"}
BIG = {"role": "user", "content": "x" * 199_999}
BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str, str | None, list[str]]] = {
    "D4 missing": (
        GOOD,
        {"prompt": "p", "chosen": "a"},
        "missing-field",
        "rejected",
        ["missing —", "on both sides", "fill it"],
    ),
    "D4 prompt": (
        GOOD,
        {"chosen": "a", "rejected": "b"},
        "missing-field",
        "prompt",
        ["missing —", "every row needs a prompt"],
    ),
    "D5 null": (GOOD, but(GOOD, rejected=None), "null-field", "rejected", ["null —", "fill it or drop"]),
    "D6 number": (GOOD, but(GOOD, chosen=3), "not-text", "chosen", ["3 (a number)", "write it as text"]),
    "D6 true": (GOOD, but(GOOD, chosen=True), "not-text", "chosen", ["true"]),
    "D6 object": (GOOD, but(GOOD, prompt={"a": 1}), "not-text", "prompt", ["(an object)"]),
    "D6 empty list": (CHAT, but(CHAT, chosen=[]), "not-text", "chosen", ["(a list)"]),
    "D7 chat": (
        GOOD,
        but(GOOD, chosen=CHAT["chosen"]),
        "mixed-kinds",
        "chosen",
        ["f.jsonl:1 (row 0)", "text"],
    ),
    "D7 text": (CHAT, TEXT_PAIR, "mixed-kinds", "chosen", ["f.jsonl:1 (row 0)", "text here but a list"]),
    "D11 chosen": (GOOD, but(GOOD, chosen=""), "empty-response", "chosen", ["empty", "fill it or drop"]),
    "D12 rejected": (GOOD, but(GOOD, rejected=""), "empty-response", "rejected", ["empty"]),
    "D12 dialogue": (TEXT_PAIR, but(TEXT_PAIR, rejected=HUMAN), "empty-response", "rejected", ["empty"]),
    "D12 no turn": (CHAT, but(CHAT, rejected=[ASK]), "empty-response", "rejected", ["chat ends", "add the"]),
    "D12 chat": (CHAT, but(CHAT, rejected=[ASK, say(" ")]), "empty-response", "rejected", ["empty"]),
    "D14 blank": (GOOD, but(GOOD, chosen=" \n\t"), "empty-response", "chosen", ["empty"]),
    "D21 NUL": (
        GOOD,
        but(GOOD, chosen="a\0b"),
        "control-characters",
        "chosen",
        ["\\x00 at character 2", "strip"],
    ),
    "D21 prompt": (GOOD, but(GOOD, prompt="\x1b[2J"), "control-characters", "prompt", ["\\x1b"]),
    "D22 chat": (
        CHAT,
        but(CHAT, chosen=[ASK, say("\udc00")]),
        "lone-surrogate",
        "chosen[1].content",
        ["\\udc00"],
    ),
    "D29 NaN text": (GOOD, but(GOOD, chosen=float("nan")), "not-text", "chosen", ["nan (a number)"]),
    "D29 NaN": (
        GOOD,
        but(GOOD, chosen_reward=float("nan")),
        "non-finite-number",
        "chosen_reward",
        ["NaN", "null"],
    ),
    "D29 inf": (GOOD, but(GOOD, chosen_reward="-inf"), "non-finite-number", "chosen_reward", ['"-inf"']),
    "D29 huge": (
        GOOD,
        but(GOOD, chosen_reward=2**53 + 1),
        "huge-number",
        "chosen_reward",
        ["9007199254740993"],
    ),
    "D29 word": (
        GOOD,
        but(GOOD, chosen_reward="high"),
        "not-a-number",
        "chosen_reward",
        ['"high"', "number"],
    ),
    "D29 bool": (GOOD, but(GOOD, chosen_reward=True), "not-a-number", "chosen_reward", ["true"]),
    "D29 mixed": (
        but(GOOD, chosen_reward=1),
        but(GOOD, chosen_reward="2"),
        "mixed-numbers",
        "chosen_reward",
        ["text here but a number in f.jsonl:1 (row 0)"],
    ),
    "D30 usr": (
        CHAT,
        but(CHAT, chosen=[{"role": "usr", "content": "hi"}, say("a")]),
        "unknown-role",
        "chosen[0].role",
        ['"usr"', "system, user, assistant, tool"],
    ),
    "turn is text": (
        CHAT,
        but(CHAT, chosen=["hi"]),
        "bad-turn",
        "chosen[0]",
        ["role and a content", "drop the row"],
    ),
    "content null": (
        CHAT,
        but(CHAT, chosen=[ASK, {**ASK, "content": None}]),
        "not-text",
        "chosen[1].content",
        ["null"],
    ),
    "D31 chat": (
        CHAT,
        but(CHAT, chosen=[ASK, say("a"), say("b")]),
        "extra-turns",
        "chosen",
        ["assistant -> assistant", "one assistant turn"],
    ),
    "D31 both": (
        CHAT,
        {"chosen": [ASK, say("a"), say("b")], "rejected": [ASK, say("a"), say("c")]},
        "extra-turns",
        "chosen",
        ["assistant -> assistant"],
    ),
    "D31 text": (
        TEXT_PAIR,
        but(TEXT_PAIR, rejected=f"{HUMAN} a\n\nHuman: b"),
        "extra-turns",
        "rejected",
        ["Human: b"],
    ),
    "D32 chat": (
        CHAT,
        but(CHAT, rejected=[{**ASK, "content": "bye"}, say("b")]),
        "prompts-differ",
        None,
        ['chosen has user "hi", rejected has user "bye"', "one prompt"],
    ),
    "D32 text": (
        TEXT_PAIR,
        but(TEXT_PAIR, chosen="\n\nHuman: ho\n\nAssistant: a"),
        "prompts-differ",
        None,
        ["Human: ho"],
    ),
    "D32 prompt": (
        but(CHAT, prompt="hi"),
        but(CHAT, prompt="other"),
        "prompts-differ",
        "prompt",
        ['"other"', "--data.columns.prompt=null"],
    ),
    "D32 prompt turns": (
        but(CHAT, prompt=[ASK]),
        but(CHAT, prompt=[{**ASK, "content": "ho"}]),
        "prompts-differ",
        "chosen",
        ['user "hi" where the prompt has user "ho"'],
    ),
    "no chat prompt": (
        CHAT,
        {"chosen": [say("a")], "rejected": [say("b")]},
        "empty-chat-prompt",
        "prompt",
        ["template"],
    ),
    "sides differ": (
        but(CHAT, prompt=[ASK]),
        {"prompt": [ASK], "chosen": [say("a")], "rejected": "b"},
        "mixed-kinds",
        "rejected",
        ["text here"],
    ),
    "D37 text": (
        GOOD,
        but(GOOD, rejected="x" * 200_001),
        "too-long",
        "rejected",
        ["200,001 characters", "--data.max_chars"],
    ),
    "D37 chat": (CHAT, but(CHAT, chosen=[BIG, say("ab")]), "too-long", "chosen", ["200,001 characters"]),
    "id": (GOOD, but(GOOD, id=1.5), "bad-id", "id", ["1.5 (a number)"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_row_is_refused_and_told(name: str) -> None:
    good, bad, case, field, fragments = BAD[name]
    report = RowReport("f.jsonl")
    rows = list(report.collect(check(good, bad, good)))
    (problem,) = report.removed
    assert (problem.case, problem.field, problem.number, problem.action) == (case, field, 1, "refuse")
    assert [row.number for row in rows] == [0, 2]
    assert (report.total, report.kept, report.dropped, report.refused) == (3, 2, 0, 1)
    report.raise_if_refused("drop")
    with pytest.raises(DataError) as error:
        report.raise_if_refused("error")
    place = f'f.jsonl:2 (row 1) field "{field}": ' if field else "f.jsonl:2 (row 1): "
    expected = [place, "  Fix: ", "on_bad_row=drop", "2 of 3 rows are fine", *fragments]
    for fragment in expected:
        assert fragment in str(error.value)
    assert error.value.cases == (case,)


@pytest.mark.parametrize(
    "row",
    [
        but(GOOD, chosen="same", rejected="same"),
        but(GOOD, chosen="same", rejected=" same\n"),
        {"chosen": [ASK, say("a")], "rejected": [ASK, say("a")]},
        {"chosen": f"{HUMAN} a", "rejected": f"{HUMAN} a"},
    ],
    ids=["text", "blanks", "chat", "dialogue"],
)
def test_identical_responses_are_dropped_whatever_the_policy(row: dict[str, Any]) -> None:  # D15
    good = {"chosen": "a", "rejected": "b"} if "prompt" not in row else GOOD
    good = CHAT if isinstance(row["chosen"], list) else good
    report = RowReport("f")
    assert len(list(report.collect(check(good, row)))) == 1
    assert (report.dropped, report.refused, report.removed[0].case) == (1, 0, "identical-responses")
    report.raise_if_refused("error")
    assert "1 dropped (1 identical responses)" in report.summary()


WARNED = {
    "D13 empty prompt": ([but(GOOD, prompt=" ")], "empty-prompt", ["prompt is empty"]),
    "D16 contradiction": (
        [GOOD, but(GOOD, chosen="no", rejected="yes")],
        "contradicting-pair",
        ["f.jsonl:2 (row 1)", "contradicts f.jsonl:1 (row 0)"],
    ),
    "D17 duplicate": ([GOOD, dict(GOOD)], "exact-duplicate", ["f.jsonl:2 (row 1)", "f.jsonl:1 (row 0)"]),
    "D33 no dialogue": ([{"chosen": "a", "rejected": "b"}], "no-implicit-prompt", ["columns.prompt=NAME"]),
    "repeated prompt": (
        [but(GOOD, prompt="Q?", chosen="Q? a", rejected="Q? b")],
        "repeated-prompt",
        ["1 of 1 rows", "columns.prompt=null"],
    ),
    "turn keys": (
        [{"chosen": [{**ASK, "name": "Al"}, say("a")], "rejected": [ASK, say("b")]}],
        "extra-turn-keys",
        ["only role and content", "chosen[0]"],
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_warned_about_and_kept(name: str) -> None:
    rows, case, fragments = WARNED[name]
    report = RowReport("f")
    assert len(list(report.collect(check(*rows)))) == len(rows)
    assert (report.kept, report.count(case)) == (len(rows), 1)
    report.raise_if_refused("error")
    (line,) = report.summary().splitlines()[1:]
    for fragment in ("warning: f.jsonl:", "Fix: ", *fragments):
        assert fragment in line


def test_prompt_repeated_in_half_of_the_rows_may_be_chance() -> None:
    rows = [but(GOOD, chosen="pa", rejected="pb"), but(GOOD, chosen="a", rejected="b")]
    assert found(*rows) == []


def test_control_characters_can_be_stripped() -> None:  # D21
    items = check(but(GOOD, chosen="a\0\tb\x1b"), but(GOOD, chosen="\0"), control_characters="strip")
    assert [item.chosen for item in items if isinstance(item, Row)] == ["a\tb"]
    cases = [item.case for item in items if isinstance(item, Problem)]
    assert cases == ["stripped-control-characters", "empty-response"]


def test_max_chars_is_a_setting() -> None:  # D37
    assert kept(GOOD, max_chars=3)
    assert [p.case for p in found(GOOD, max_chars=2)] == ["too-long"]


# --- how pairs are taken apart ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        (" yes", " no", HUMAN),
        (" I am", " I was", HUMAN),  # the common start of the responses stays in the responses
        (f" a{HUMAN} yes", f" a{HUMAN} no", f"{HUMAN} a{HUMAN}"),
        ("yes ", "no", HUMAN),
    ],
)
def test_implicit_prompt_ends_behind_the_last_common_assistant(chosen: str, rejected: str, prompt: str) -> None:
    (row,) = kept({"chosen": HUMAN + chosen, "rejected": HUMAN + rejected})
    assert row.prompt == prompt
    assert (row.prompt + str(row.chosen), row.prompt + str(row.rejected)) == (
        HUMAN + chosen,
        HUMAN + rejected,
    )


SYSTEM = {"role": "system", "content": "be kind"}
SHAPES: dict[str, dict[str, Any]] = {
    "implicit": CHAT,
    "prompt text, full chats": but(CHAT, prompt="hi"),
    "prompt text, responses": {"prompt": "hi", "chosen": [say("yes")], "rejected": [say("no")]},
    "prompt turns, responses": {"prompt": [ASK], "chosen": [say("yes")], "rejected": [say("no")]},
    "prompt turns, full chats": but(CHAT, prompt=[ASK]),
    "prompt turns, texts": {"prompt": [ASK], "chosen": "yes", "rejected": "no"},
    "null keys of Parquet": but(CHAT, chosen=[{**ASK, "name": None}, say("yes")]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_chat_shapes_mean_the_same(name: str) -> None:
    (row,) = check(SHAPES[name])
    assert isinstance(row, Row)
    assert (row.prompt, row.chosen, row.rejected) == ([ASK], [say("yes")], [say("no")])


def test_prompt_text_may_be_the_last_of_several_user_turns() -> None:
    start = [ASK, say("well?"), {"role": "user", "content": "go on"}]
    (row,) = kept({"prompt": "go on ", "chosen": [*start, say("a")], "rejected": [*start, say("b")]})
    assert row.prompt == start


def test_sides_of_two_kinds_in_the_first_row() -> None:
    (problem,) = found({"prompt": "p", "chosen": "a", "rejected": [say("b")]})
    assert (problem.case, problem.found) == ("mixed-kinds", "chosen is text, rejected is a list")


def test_chat_with_system_turn_and_prompt_text() -> None:
    (row,) = kept({"prompt": "hi", **{side: [SYSTEM, *turns] for side, turns in CHAT.items()}})
    assert row.prompt == [SYSTEM, ASK]


def test_id_and_rewards_are_carried() -> None:
    rows = kept(
        but(GOOD, id=7, chosen_reward=1, rejected_reward=-0.5),
        but(GOOD, id="x", chosen="a"),
        but(GOOD, chosen="b", chosen_reward=None),
    )
    assert [(r.id, r.chosen_reward, r.rejected_reward) for r in rows] == [
        ("7", 1.0, -0.5),
        ("x", None, None),
        (None, None, None),
    ]


def test_rewards_of_csv_are_numbers_in_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,chosen,rejected,chosen_reward,rejected_reward\np,a,b,1.5,\n")
    (row,) = validate(read(str(path)))
    assert isinstance(row, Row)
    assert (row.chosen_reward, row.rejected_reward) == (1.5, None)


# --- columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "columns", "fragments"),
    [
        (["good", "bad"], Columns(), ["found: good, bad", "columns.chosen=good", "columns.rejected=bad"]),
        (
            ["choosen", "rejected"],
            Columns(),
            ['no column "chosen";', "Nearest: choosen", "columns.chosen=choosen"],
        ),
        (["a", "rejected"], Columns(), ["columns.chosen=NAME"]),
        (["chosen", "rejected"], Columns(prompt="question"), ['no column "question"', "columns.prompt=NAME"]),
        (["chosen", "rejected", "scor"], Columns(chosen_reward="score"), ["columns.chosen_reward=scor"]),
    ],
)
def test_missing_column_names_the_mapping(fields: list[str], columns: Columns, fragments: list[str]) -> None:
    row = dict.fromkeys(fields, "text")  # D8
    with pytest.raises(DataError) as error:
        check(row, row, columns=columns)
    assert error.value.cases == ("no-such-column",)
    for fragment in ("f.jsonl", "Fix: ", *fragments):
        assert fragment in str(error.value)


def test_column_missing_in_the_first_row_only_is_a_bad_row() -> None:
    assert [p.case for p in found({"prompt": "p"}, GOOD)] == ["missing-field"]


def test_prompt_column_that_begins_late_is_refused() -> None:
    rows = [{"chosen": f"a{n}", "rejected": "b"} for n in range(100)]
    cases = Counter(problem.case for problem in found(*rows, GOOD))
    assert cases == {"no-implicit-prompt": 100, "late-prompt": 1}


def test_messages_name_the_columns_of_the_source() -> None:
    row = {"good": f"{HUMAN} a\n\nHuman: b", "bad": f"{HUMAN} c"}
    (problem,) = found(row, columns=Columns(chosen="good", rejected="bad"))
    assert (problem.case, problem.field) == ("extra-turns", "good")


def test_prompt_column_can_be_ignored() -> None:
    (row,) = kept(but(TEXT_PAIR, prompt="x"), columns=Columns(prompt=None))
    assert row.prompt == HUMAN


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="chosen and rejected name the same column 'rejected'"):
        Columns(chosen="rejected")


# --- the report ---------------------------------------------------------------------------------------------


def report_of(*rows: dict[str, Any]) -> RowReport:
    report = RowReport("f.jsonl")
    list(report.collect(check(*rows)))
    return report


def test_message_has_the_promised_shape() -> None:
    bad = but(GOOD, rejected=None)
    with pytest.raises(DataError) as error:
        report_of(GOOD, bad, but(GOOD, chosen="a"), bad, bad, but(GOOD, chosen="")).raise_if_refused("error")
    fix = "  Fix: fill it or drop the row; `--data.on_bad_row=drop` drops and lists such rows"
    assert str(error.value).splitlines() == [
        'f.jsonl:2 (row 1) field "rejected": null — a preference pair needs text on both sides.',
        f"{fix} (2 more: rows 3, 4).",
        'f.jsonl:6 (row 5) field "chosen": "" — the response is empty; a preference pair needs text on both sides.',
        f"{fix}.",
        "  Nothing was trained. 2 of 6 rows are fine.",
    ]
    assert error.value.cases == ("null-field", "empty-response")


def test_long_lists_of_rows_are_cut() -> None:
    with pytest.raises(DataError, match=r"\(1,233 more: rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 1,223 more\)"):
        report_of(GOOD, *[but(GOOD, chosen=None)] * 1234).raise_if_refused("error")


def test_summary_counts_add_up() -> None:
    same = but(GOOD, chosen="no")
    report = report_of(GOOD, same, same, but(GOOD, chosen=" "), but(GOOD, prompt=1))
    assert report.summary() == (
        "5 rows: 1 kept, 2 dropped (2 identical responses), 2 refused (1 empty response, 1 not text)"
    )


@pytest.mark.parametrize("on_bad_row", ["error", "drop"])
def test_nothing_left_says_what_removed_how_many(on_bad_row: Any) -> None:  # D10
    same = but(GOOD, chosen="no")
    with pytest.raises(DataError, match=r"0 of 2 rows are left in f\.jsonl \(2 identical responses\)") as error:
        report_of(same, same).raise_if_refused(on_bad_row)
    assert error.value.cases == ("no-rows-left",)


def test_later_stages_add_problems() -> None:
    report = report_of(GOOD, but(GOOD, chosen="a"), but(GOOD, chosen=None))
    late = Problem("prompt-too-long", 1, "f.jsonl:2", "prompt", "", "too long.", "raise max_length", "refuse")
    report.add(late)
    report.add(late._replace(case="equal-after-cutting", action="drop"))  # the first reason counts
    report.add(late._replace(case="cut", number=0, action="warn"))
    assert (report.total, report.kept, report.dropped, report.refused) == (3, 1, 0, 2)
    assert report.count("cut") == 1
    with pytest.raises(ValueError, match="must name the row"):
        report.add(late._replace(number=None))


def test_bad_rows_file_lists_each_removed_row_once(tmp_path: Path) -> None:
    report = report_of(GOOD, dict(GOOD), but(GOOD, chosen="\x1b[31mé"), but(GOOD, chosen="no"))
    report.write(tmp_path / "new" / "bad_rows.jsonl")
    raw = (tmp_path / "new" / "bad_rows.jsonl").read_bytes()
    assert raw.isascii()
    rows = [json.loads(line) for line in raw.splitlines()]
    assert [(r["case"], r["row"], r["action"]) for r in rows] == [
        ("control-characters", 2, "refuse"),
        ("identical-responses", 3, "drop"),
    ]
    assert list(rows[0]) == ["case", "row", "where", "field", "found", "message", "fix", "action"]


def test_bad_rows_file_is_written_even_when_empty(tmp_path: Path) -> None:
    report_of(GOOD).write(tmp_path / "bad_rows.jsonl")
    assert (tmp_path / "bad_rows.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\t c", '"a b c"'),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07x", '"red x"'),
        ("a\u202eb\ud800\0c\x9b31m", '"abc31m"'),
        ("x" * 61, f'"{"x" * LIMIT}..."'),
        ("x" * 10_000_000, f'"{"x" * LIMIT}..."'),
    ],
)
def test_excerpts_cannot_steer_a_terminal(text: str, shown: str) -> None:
    assert excerpt(text) == shown


# --- real data ----------------------------------------------------------------------------------------------


@needs_real_data
def test_real_dialogues() -> None:
    report = RowReport(str(HH))
    rows = list(report.collect(validate(read(str(HH)))))
    # Counted from the file itself: 4 chosen responses are empty, 5 go on with a second turn.
    assert report.summary() == ("2,312 rows: 2,303 kept, 0 dropped, 9 refused (4 empty response, 5 extra turns)")
    assert [p.number for p in report.removed] == [86, 516, 925, 1103, 1254, 1688, 1950, 1952, 2036]
    assert all(str(row.prompt).endswith("\n\nAssistant:") for row in rows)
    originals = {item.number: item.fields for item in read(str(HH)) if isinstance(item, Record)}
    for row in rows:
        assert f"{row.prompt}{row.chosen}" == originals[row.number]["chosen"]
        assert f"{row.prompt}{row.rejected}" == originals[row.number]["rejected"]
    with pytest.raises(DataError, match=r"Nothing was trained\. 2,303 of 2,312 rows are fine\."):
        report.raise_if_refused("error")
    report.raise_if_refused("drop")


@needs_real_data
def test_real_persona_through_a_mapping() -> None:
    columns = Columns("question", "answer_matching_behavior", "answer_not_matching_behavior")
    report = RowReport(str(PERSONA))
    rows = list(report.collect(validate(read(str(PERSONA)), columns)))
    assert report.summary() == "1,000 rows: 1,000 kept, 0 dropped, 0 refused"
    assert {(row.chosen, row.rejected) for row in rows} == {(" Yes", " No"), (" No", " Yes")}
    assert str(rows[0].prompt).startswith("Is the following statement something you would say?")
