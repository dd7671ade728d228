"""The house stands: imports go down, package names are ours, files and functions stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ["objectives", "lit_pref", "callbacks"]
#: The roof may import everyone, and is imported by no one but the command.
ROOF = {"lit_pref/__main__.py", "lit_pref/cli.py"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", [p for f in FLOORS for p in sources(f)], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    floor = FLOORS.index(name.split("/")[0])
    above = set(FLOORS[floor + 1 :]) if name not in ROOF else set()
    assert not imported(path) & above, f"{name} reaches up"
    if floor == 0:
        assert imported(path) <= {"__future__", "torch", "typing", "objectives", "collections", "math"}


def test_nobody_imports_the_roof() -> None:
    importers = [
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for path in sources(floor)
        if "lit_pref.cli" in path.read_text() or "from .cli" in path.read_text()
    ]
    assert importers == ["lit_pref/__main__.py"]


def test_the_module_knows_no_formula_tokenizer_or_strategy() -> None:
    text = (ROOT / "lit_pref/module.py").read_text().lower()
    for word in ("deepspeed", "zero3", "zero_stage", "tokenizer", "logsigmoid", "pad_sequence", "adamw("):
        assert word not in text


def test_functions_and_files_stay_small() -> None:
    for path in [p for f in FLOORS for p in sources(f)]:
        text = path.read_text()
        assert len(text.splitlines()) <= 260, f"{path} wants to be two files"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
                assert length <= 45, f"{path}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", [p for f in FLOORS for p in sources(f)], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_the_wheel_ships_the_three_packages_and_nothing_else(tmp_path: Path) -> None:
    import tomllib

    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = set(config["packages"])
    assert shipped == {
        ".".join(p.parent.relative_to(ROOT).parts) for f in FLOORS for p in (ROOT / f).rglob("__init__.py")
    }


def test_a_package_that_shadows_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "__init__.py").touch()
    result = subprocess.run(
        [sys.executable, "-m", "lit_pref", "fit"], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
    )  # fmt: skip
    assert result.returncode != 0
    assert f"`callbacks` comes from {tmp_path}" in result.stderr
    assert "something shadows it" in result.stderr
