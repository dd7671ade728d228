"""Files of objectives by name. Knows folders and YAML files; nothing of what an objective computes."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..errors import ConfigError

FOLDER = Path("configs") / "objectives"
#: Of a checkout; an installed package has none.
BESIDE = Path(__file__).resolve().parents[2] / FOLDER


def objective_files(names: Sequence[str]) -> dict[str, Path]:
    """Name -> file, in the order given; a path is named as its file.

    Raises:
        ConfigError: no such objective, two of one name, or a file that sets no objective.
    """
    found: dict[str, Path] = {}
    for name in names:
        file = _file_of(name)
        short = re.sub(r"[^\w.+-]+", "-", file.stem)
        if short in found:
            raise ConfigError(f"--objectives: {found[short]} and {file} would both be named {short!r}; rename one.")
        _check(file)
        found[short] = file
    return found


def _file_of(name: str) -> Path:
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"--objectives {name}: there is no such file")
        return path.resolve()
    for folder in (FOLDER, BESIDE):
        if (path := folder / f"{name}.yaml").is_file():
            return path.resolve()
    known = sorted({path.stem for folder in (FOLDER, BESIDE) for path in folder.glob("*.yaml")})
    near = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"--objectives: there is no objective {name!r}.{f' Did you mean {near[0]!r}?' if near else ''}\n"
        f"  Choices: {', '.join(known) or f'none, as there is no folder {FOLDER} here'}\n"
        "  or the path of a YAML file that sets model.objective. Nothing was trained."
    )


def _check(file: Path) -> None:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        objective = content["model"]["objective"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        objective = None
    if not objective:
        raise ConfigError(f"--objectives: {file} sets no model.objective; see the files of {FOLDER}.")
