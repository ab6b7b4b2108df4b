"""Reading studies: YAML to checked settings, and faults as sentences."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from decoders.config.study import StudySettings
from decoders.errors import SettingsError


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed beside the unknown one at `location`."""
    node: Any = StudySettings.model_json_schema()
    definitions = node["$defs"]
    for key in location[:-1]:
        if isinstance(key, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(key, node.get("additionalProperties", {}))
        node = _resolve(node, definitions)
    return list(node.get("properties", {}))


def _resolve(node: Any, definitions: dict[str, Any]) -> Any:
    for option in node.get("anyOf", [node]):
        if "$ref" in option:
            return definitions[option["$ref"].rsplit("/", 1)[-1]]
        if option.get("type") == "array":
            return option
    return node


def _sentence(error: Any, above: tuple[int | str, ...] = ()) -> str:
    location = (*above, *error["loc"])
    key = ".".join(str(part) for part in location) or "the study"
    if error["type"] == "extra_forbidden":
        known = _known_keys(location)
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Known keys here: {', '.join(known)}."
        return f"'{key}' is not a setting. {hint}"
    message = str(error["msg"]).removeprefix("Value error, ")
    found = "" if error["type"] == "missing" else f" (found {json.dumps(error['input'], default=str)[:80]})"
    hint = " Put it in quotes." if error["type"] == "string_type" and isinstance(error["input"], int | float) else ""
    return f"'{key}': {message}{found}.{hint}"


def parse_settings(values: dict[str, Any], where: str | Path = "settings") -> StudySettings:
    """Check the raw values of a study.

    Parameters
    ----------
    values : dict
        What the YAML file holds.
    where : str or Path
        Named in the error.

    Raises
    ------
    SettingsError
        One sentence per fault; unknown keys name the closest known one.
    """
    try:
        # JSON mode: strict about types, yet lists may become tuples.
        return StudySettings.model_validate_json(json.dumps(values))
    except TypeError as error:
        raise SettingsError(
            f"{where}: a value is neither text, number, list nor mapping ({error}). Quote dates and the like."
        ) from error
    except ValidationError as error:
        faults = "\n".join(f"  - {_sentence(fault)}" for fault in error.errors())
        raise SettingsError(f"{where}: the study cannot be used as it stands:\n{faults}") from error


def load_settings(path: str | Path) -> StudySettings:
    """Read a study file (YAML) and check it."""
    return parse_settings(read_study(path), path)


class _OnceLoader(yaml.SafeLoader):
    """YAML would let the last of two equal keys win, in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        doubled = next((key for key in keys if keys.count(key) > 1), None)
        if doubled is not None:
            raise yaml.MarkedYAMLError("in a mapping", node.start_mark, f"the key '{doubled}' comes twice")
        return super().construct_mapping(node, deep)


def read_study(path: str | Path) -> dict[str, Any]:
    """Read the raw values of a study file.

    Raises
    ------
    SettingsError
        It cannot be read, is no mapping, or gives a setting twice.
    """
    path = Path(path)
    try:
        values = _OnceLoader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML ({error}). Start from `corticode init STUDY`.") from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path}: expected a mapping of settings, found {type(values).__name__}. Start from `corticode init STUDY`."
        )
    return values


def pick(study: StudySettings, key: str) -> Any:
    """Return a setting by its dotted name; None below a block that is absent."""
    value: Any = study
    for part in key.split("."):
        value = None if value is None else getattr(value, part)
    return value


def parse_slice(values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Check some settings, as a stage receives them.

    Parameters
    ----------
    values : dict
        Raw values of exactly the settings `keys` (dotted names); None below a block that is absent.
    keys : sequence of str

    Raises
    ------
    SettingsError
        A setting that is missing, surplus or not valid.
    """
    if set(values) != set(keys):
        raise SettingsError(f"This stage takes the settings {sorted(keys)}, found {sorted(values)}.")
    return {key: _parse_one(key, values[key]) for key in keys}


def _parse_one(key: str, value: Any) -> Any:
    if value is None and "." in key:
        return None
    location = tuple(key.split("."))
    annotation: Any = StudySettings
    for part in location:
        # A block is a model or None.
        options = [option for option in (annotation, *get_args(annotation)) if hasattr(option, "model_fields")]
        annotation = options[0].model_fields[part].annotation
    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        faults = "\n".join(f"  - {_sentence(fault, location)}" for fault in error.errors())
        raise SettingsError(f"The settings of this stage cannot be used:\n{faults}") from error


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a study file, as exported to workflow/schemas."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudySettings.model_json_schema()}
