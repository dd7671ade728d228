"""Measures judges on labelled rows, and reports. Knows nothing about policies, runs or training."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from .calibration_text import SHIPPED_NOTE, WORLD_NOTE, differing, kinds_table, marginals, right, source_line, table
from .console import counting, say
from .errors import ConfigError
from .finite_json import finite
from .judged_text import agreement_words, alpha_words
from .judges.agreement import Agreement, Calibration, agreement, calibrate, nominal_alpha
from .judges.base import Judge, Verdict
from .judges.cache import VerdictCache
from .judges.labelled_rows import SHIPPED, kinds, read_labelled
from .panel import Session, device_named, fingerprint_of, names_of
from .paths import cache_root, file_sha256
from .refusals import disagreements
from .whole_file import write_text
from .world import is_world


class CalibratedJudges:
    """Judge labelled responses, say how often each judge errs, and where.

    Args:
        judges: KeywordJudge, ClassifierJudge, GenerativeJudge, SorryBenchJudge, EndpointJudge, or a class of yours;
            any number.
        rows: JSONL, JSON, CSV or Parquet with prompt, response and label (refusal, compliance or partial), and if
            wanted id and kind; by default the 200 rows that are shipped.
        out: folder for ``calibration.md`` and ``calibration.json``; by default nothing is written. The latter is what
            ``lit-pref judge --calibration`` reads.
        show: how many rows to show of those that a judge labels otherwise.
        cache: SQLite file of verdicts; by default below $LIT_PREF_CACHE or ~/.cache/lit-pref.
        device: where judges that are models compute, such as cuda.
        seed: of bootstraps.
    """

    def __init__(
        self,
        judges: list[Judge] = [],  # noqa: B006, never changed
        rows: str | None = None,
        out: str | None = None,
        show: int = 10,
        cache: str | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if not judges:
            raise ConfigError("judges is empty.\n  Fix: name one, such as --judges KeywordJudge.")
        if show < 0:
            raise ConfigError(f"show is {show}\n  Fix: give a number of rows from 0 on.")
        self.judges, self.names = judges, names_of(judges)
        self.path = SHIPPED if rows is None else Path(rows).expanduser()
        self.out = None if out is None else Path(out).expanduser()
        self.cache = VerdictCache(cache or cache_root() / "verdicts.sqlite")
        self.device, self.show, self.seed = device_named(device), show, seed
        self.rows = read_labelled(rows if rows is None else self.path)
        self.truths = [row.label for row in self.rows]
        self.verdicts: dict[str, list[Verdict]] = {}

    def write(self) -> None:
        """Judge, say the report, and write it down where a folder was given."""
        self._judge()
        found = {name: calibrate(self.labels(name), self.truths, self.seed) for name in self.names}
        report = self._report(found)
        say(report)
        if self.out is None:
            return
        contents = {"calibration.md": f"{report}\n", "calibration.json": self._json(found)}
        for name, text in contents.items():
            readable = text.encode("utf-8", "replace").decode()  # half a surrogate pair has no bytes
            write_text(self.out / name, readable, "The verdicts are in the cache; --out names another folder.")
        say(f"\nReport: {self.out / 'calibration.md'}")

    def labels(self, name: str) -> list[Any]:
        """What a judge said, a label a row."""
        return [verdict.label for verdict in self.verdicts[name]]

    def _judge(self) -> None:
        items = [row.item for row in self.rows]
        with counting("Judging", len(items) * len(self.judges), "responses") as advance:
            for judge, name in zip(self.judges, self.names, strict=True):
                session = Session(judge, name, self.cache, advance=advance, device=self.device)
                session.open()
                self.verdicts[name] = session.judge(items)
                session.close()
        self.cache.close()

    def _note(self, judge: Judge) -> str:
        """Why a judge's numbers are not to be used; empty where they may be."""
        return WORLD_NOTE if self.path == SHIPPED and is_world(str(getattr(judge, "model", ""))) else ""

    def _report(self, found: dict[str, Calibration]) -> str:
        source = "the shipped set" if self.path == SHIPPED else str(self.path)
        parts = ["# How good the judges are", source_line(source, self.rows)]
        parts += [SHIPPED_NOTE] if self.path == SHIPPED else []
        notes = {name: self._note(judge) for judge, name in zip(self.judges, self.names, strict=True)}
        parts += [f"**Do not read the numbers of {name}**: {note}" for name, note in notes.items() if note]
        parts += [table(found), *(marginals(name, one) for name, one in found.items())]
        parts += [agreement_words(*pair, self._pair(*pair)) for pair in self._pairs()]
        if len(self.names) > 2:
            every = [self.labels(name) for name in self.names]
            parts.append(alpha_words(len(every), nominal_alpha(every, self.seed)))
        parts += ["## Right about refusal or not, by kind of row"]
        parts.append(kinds_table(self.rows, {name: self.labels(name) for name in self.names}))
        for name in self.names:
            places = self._differing(name)
            parts.append(f"## Where {name} and the labels differ most")
            parts.append(differing(self.rows, self.verdicts[name], places[: self.show], len(places)))
        return "\n\n".join(parts)

    def _differing(self, name: str) -> list[int]:
        """Refusal against compliance first, then the surer verdicts."""
        scores = [(verdict.score, None) for verdict in self.verdicts[name]]
        return disagreements(self.labels(name), self.truths, scores, len(self.rows))

    def _pairs(self) -> list[tuple[str, str]]:
        return list(itertools.combinations(self.names, 2))

    def _pair(self, first: str, second: str) -> Agreement:
        return agreement(self.labels(first), self.labels(second), self.seed)

    def _json(self, found: dict[str, Calibration]) -> str:
        every = [self.labels(name) for name in self.names]
        whole = {
            "rows": {
                "source": "shipped" if self.path == SHIPPED else str(self.path),
                "sha256": file_sha256(self.path) if self.path.is_file() else None, "n": len(self.rows),
            },
            "judges": {
                name: self._plain(judge, name, found[name])
                for judge, name in zip(self.judges, self.names, strict=True)
            },
            "pairs": [{"judges": pair, **self._pair(*pair)._asdict()} for pair in self._pairs()],
            "krippendorff_alpha": nominal_alpha(every, self.seed)._asdict() if len(every) > 2 else None,
        }  # fmt: skip
        return json.dumps(finite(whole), indent=2) + "\n"

    def _plain(self, judge: Judge, name: str, found: Calibration) -> dict[str, Any]:
        """A judge's numbers; `refusals` and `others` are right ones and all, of rows with a verdict."""
        sensitivity, specificity = found.intervals
        labels = self.labels(name)
        return {
            "fingerprint": fingerprint_of(judge, name), "note": self._note(judge),
            **{key: value for key, value in found._asdict().items() if key not in ("agreement", "refusing")},
            "sensitivity_interval": sensitivity, "specificity_interval": specificity,
            "agreement": found.agreement._asdict(), "agreement_on_refusing": found.refusing._asdict(),
            "kinds": {kind: right(self.rows, labels, places) for kind, places in kinds(self.rows)},
            "differing": [
                {"id": self.rows[i].id, "judged": labels[i], "label": self.truths[i]} for i in self._differing(name)
            ],
        }  # fmt: skip
