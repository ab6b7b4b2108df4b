"""The console command ``corticode``: one verb per stage, and the verbs that a person starts with."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from decoders.errors import CorticodeError, SettingsError
from decoders.stages import STAGES

# A full disk, a full quota, a folder that may not be written.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
_EPILOG = "A study runs as a whole with `snakemake --cores N --configfile STUDY.yaml`, or `corticode run STUDY.yaml`."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code (0 done, 2 an error that a sentence explains, 1 a defect)."""
    options = _parser().parse_args(arguments)
    _start_log(getattr(options, "log", None))
    try:
        return int(options.function(options) or 0)
    except CorticodeError as error:
        logging.getLogger("corticode").error("%s", error)
        return 2
    except BrokenPipeError:
        return 1
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            return _defect()
        logging.getLogger("corticode").error("%s. Make room, or correct the rights; then run again.", error)
        return 2
    except Exception:
        return _defect()


def _defect() -> int:
    # The whole trace goes to the log file: it is for us, the sentence is for the user.
    logging.getLogger("corticode").error("This is a defect of Corticode, please report it:\n%s", traceback.format_exc())
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="corticode", description=__doc__.split("\n")[0], epilog=_EPILOG)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_people_verbs(verbs)
    for name, stage in STAGES.items():
        _add_stage_verb(verbs, name, stage.module)
    return parser


def _add_people_verbs(verbs: Any) -> None:
    init = verbs.add_parser("init", help="write a commented study file to start from")
    init.add_argument("study", help="name of the study, or the path of the new YAML file")
    init.set_defaults(function=_init)
    run = verbs.add_parser("run", help="run a whole study (snakemake)")
    run.add_argument("study", type=Path)
    run.add_argument("--cores", default="all")
    run.add_argument("options", nargs="*", help="passed on to snakemake, after --")
    run.set_defaults(function=_run)
    check = verbs.add_parser("check", help="check a study file and print it in full")
    check.add_argument("study", type=Path)
    check.set_defaults(function=_check)
    fetch = verbs.add_parser("fetch", help="fetch registered public data, verified, and print where they are")
    fetch.add_argument("names", nargs="*", help="registry entries; none lists them")
    fetch.add_argument("--mirror", help="folder to read instead of the network (CORTICODE_MIRROR does the same)")
    fetch.set_defaults(function=_fetch)
    doctor = verbs.add_parser("doctor", help="say what this machine has, and what stands in the way")
    doctor.set_defaults(function=_doctor)
    schema = verbs.add_parser("schema", help="print the JSON schema of a study file")
    schema.set_defaults(function=_schema)
    certify = verbs.add_parser(
        "certify", help="simulate studies of known truth, and count how often inference is wrong"
    )
    certify.add_argument("study", nargs="?", type=Path, help="study whose settings are certified; none: the defaults")
    certify.add_argument("--full", action="store_true", help="2,000 studies of each kind (an hour) in place of 60")
    certify.add_argument("--output", type=Path, default=Path("certificate.json"))
    certify.add_argument("--rdms", type=Path, help="rdms.h5 of a study: its recordings with permuted labels count too")
    certify.add_argument("--controls", type=Path, help="control_rdms.h5 of that study")
    certify.set_defaults(function=_certify)
    compare = verbs.add_parser("compare", help="show two finished studies side by side, on one offline page")
    compare.add_argument("first", type=Path, help="folder of results, e.g. results/a")
    compare.add_argument("second", type=Path, help="folder of the other results")
    compare.add_argument("--output", type=Path, default=Path("compare.html"))
    compare.set_defaults(function=_compare)
    rules = verbs.add_parser("rules", help="list the learning rules and the architectures that they train")
    rules.add_argument("--json", action="store_true", help="the whole table, with every reason")
    rules.add_argument("--options", metavar="RULE", help="list the options of a rule instead")
    rules.set_defaults(function=_rules)


def _add_stage_verb(verbs: Any, name: str, module: str) -> None:
    verb = verbs.add_parser(name, help=f"stage of the workflow ({module})")
    verb.add_argument("--settings", required=True, help="a study file, or the stage's settings as JSON")
    verb.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    verb.add_argument("--output", action="append", default=[], metavar="NAME=PATH")
    verb.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    verb.add_argument("--log", type=Path, help="log file")
    verb.set_defaults(function=_stage)


def _stage(options: argparse.Namespace) -> None:
    from decoders.stage import run_stage

    inputs: dict[str, list[Path]] = {}
    for name, value in _pairs(options.input):
        inputs.setdefault(name, []).append(Path(value))
    outputs = {name: Path(value) for name, value in _pairs(options.output)}
    run_stage(_slice(options.verb, options.settings), inputs, outputs, dict(_pairs(options.label)))


def _slice(stage: str, settings: str) -> Any:
    from decoders.config import load_settings, parse_slice
    from decoders.stage import SettingsSlice

    if not settings.lstrip().startswith("{"):
        return SettingsSlice.of(stage, load_settings(settings))
    try:
        values = json.loads(settings)
    except json.JSONDecodeError as error:
        raise SettingsError(f"--settings: neither a study file nor JSON ({error}).") from error
    return SettingsSlice(stage, parse_slice(values, STAGES[stage].keys))


def _pairs(items: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for item in items:
        name, separator, value = item.partition("=")
        if not separator or not name or not value:
            raise SettingsError(f"'{item}': expected NAME=VALUE.")
        pairs.append((name, value))
    return pairs


def _start_log(path: Path | None) -> None:
    """Log warnings to the terminal and everything to the log file."""
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [terminal]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.captureWarnings(True)


def _init(options: argparse.Namespace) -> None:
    from decoders.template import write_template

    path = write_template(options.study)
    print(f"Wrote {path}. Edit it, then: snakemake --cores all --configfile {path}")


def _check(options: argparse.Namespace) -> None:
    from decoders.config import load_settings

    study = load_settings(options.study)
    print(study.model_dump_json(indent=1))
    for key in ("root", "derivatives", "mirror"):
        folder = getattr(study.data, key)
        inner = Path(study.data.root or ".") / (folder or "")
        if folder and not Path(folder).is_dir() and not (key == "derivatives" and inner.is_dir()):
            logging.getLogger("corticode").warning("data.%s: there is no folder %s yet.", key, Path(folder).absolute())


def _run(options: argparse.Namespace) -> int:
    import subprocess

    from decoders.config import load_settings

    load_settings(options.study)
    command = [sys.executable, "-m", "snakemake", "--cores", options.cores, "--configfile", str(options.study)]
    return subprocess.call([*command, *options.options])


def _fetch(options: argparse.Namespace) -> None:
    from decoders.data.registry import describe, fetch, names

    if not options.names:
        print("\n".join(describe(name) for name in names()))
    for name in options.names:
        print(f"{fetch(name, options.mirror)}\n{describe(name)}")


def _doctor(options: argparse.Namespace) -> int:
    from decoders.doctor import examine

    findings = examine()
    for finding in findings:
        print(finding)
    return int(any(not finding.good for finding in findings))


def _schema(options: argparse.Namespace) -> None:
    from decoders.config import json_schema

    print(json.dumps(json_schema(), indent=1))


def _certify(options: argparse.Namespace) -> None:
    from decoders.alignment.certificate.verb import certify

    found = certify(options.study, options.full, options.output, options.rdms, options.controls)
    print(f"{found['sentence']}\n{options.output}")


def _compare(options: argparse.Namespace) -> None:
    from decoders.report.compare import compare

    found = compare(options.first, options.second, options.output)
    print(f"{found.sentence}\n{found.path}")


def _rules(options: argparse.Namespace) -> None:
    from decoders.learning.listing import listed_options, listed_rules
    from decoders.learning.registry import rule_table

    if options.options:
        print(listed_options(options.options))
    else:
        table = rule_table()
        print(table.to_json(orient="records", indent=1) if options.json else listed_rules(table))


if __name__ == "__main__":
    sys.exit(main())
