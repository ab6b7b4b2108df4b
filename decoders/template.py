"""A commented study file, written from the settings' own descriptions."""

from __future__ import annotations

import json
import re
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from decoders.config import StudySettings, load_settings
from decoders.errors import SettingsError
from decoders.store.atomic import write_text

_HEAD = """# A study of Corticode. Lines that start with '# ' and a key show a default: remove the '# ' to set it.
# Check it with `corticode check FILE`, run it with `snakemake --cores all --configfile FILE`.
"""
_START = {
    "data": {"source": "bids", "root": "path/to/bids"},
    # One key at least: below an empty mapping no line could be uncommented.
    "preprocess": {"representation": "volume"},
}


def write_template(study: str) -> Path:
    """Write the template of a new study and return its path.

    Parameters
    ----------
    study : str
        A name (the file is then ``config/studies/<name>.yaml``) or the path of a ``.yaml`` file.

    Raises
    ------
    SettingsError
        The file exists already, or the name is not made of letters, digits and underscores.
    """
    is_path = study.endswith((".yaml", ".yml"))
    path = Path(study) if is_path else Path("config/studies") / f"{study}.yaml"
    name = path.stem if is_path else study
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", name):
        raise SettingsError(f"'{name}': expected a study name of letters, digits and underscores.")
    if path.exists():
        raise SettingsError(f"{path}: exists already. Choose another name, or remove it first.")
    write_text(path, commented_yaml({"study": path.stem, **_START}))
    load_settings(path)
    return path


def commented_yaml(values: dict[str, Any]) -> str:
    """Return a study file: the given values as they are, every other setting as a comment with its default."""
    return _HEAD + "\n".join(_lines(StudySettings, values, 0, active=True)) + "\n"


def _lines(model: type[BaseModel], values: dict[str, Any], depth: int, active: bool) -> list[str]:
    lines: list[str] = []
    for key, field in model.model_fields.items():
        given = active and key in values
        inner = _inner_model(field.annotation)
        lines += _comment(field, inner, depth)
        mark = "  " * depth if given else "  " * depth + "# "
        if inner is None or (given and values[key] is None):
            lines.append(f"{mark}{key}: {_value(values[key] if given else _default(field))}")
            continue
        block = _lines(inner, values.get(key) or {}, depth + 1, given)
        # A block without any active key needs braces to be a mapping.
        empty = given and not values[key]
        lines.append(f"{mark}{key}: {{}}" if empty else f"{mark}{key}:")
        lines += block
    return lines


def _comment(field: FieldInfo, inner: type[BaseModel] | None, depth: int) -> list[str]:
    text = field.description or ((inner.__doc__ or "").split("\n")[0] if inner else "")
    choices = _choices(field.annotation)
    note = f" [{' | '.join(choices)}]" if choices else ""
    head = ["", f"{'  ' * depth}# {text}{note}"] if depth == 0 else [f"{'  ' * depth}# {text}{note}"]
    return head if text or note else []


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return None if field.is_required() else default


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _choices(annotation: Any) -> list[str]:
    for option in _options(annotation):
        if typing.get_origin(option) is typing.Literal:
            return [str(choice) for choice in typing.get_args(option)]
        for argument in typing.get_args(option):
            if typing.get_origin(argument) is typing.Literal:
                return [str(choice) for choice in typing.get_args(argument)]
    return []


def _options(annotation: Any) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _rewrite(path: Path) -> None:
    """Write the file of a study anew: its values as they are, all other settings as comments."""
    import yaml

    write_text(path, commented_yaml(yaml.safe_load(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    import sys

    _rewrite(Path(sys.argv[1]))
