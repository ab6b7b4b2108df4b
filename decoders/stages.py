"""The table of stages, and the digest of the source that each of them runs.

The Snakefile reads this file at every start, so it imports nothing heavy.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeGuard

PACKAGE = "decoders"
RULES = "decoders.learning.rules"
ROOT = Path(__file__).resolve().parent
# Settings reach a stage as values (in the params), and this table and the adapter hold no computation.
_NOT_DIGESTED = {"decoders.config", "decoders.stages", "decoders.stage", "decoders.errors"}

# Lists of modules that are followed but not digested: a rule that is added must not train the others' networks anew.
_LISTS = {"decoders.learning.catalogue"}
# Prefixes of combined names (decoders.learning.modifiers).
_MODIFIERS = ("untrained_", "decorrelated_", "noisy_")

_DATA_SUFFIXES = {".txt", ".html", ".css", ".js", ".tsv", ".json"}


@dataclass(frozen=True)
class Stage:
    """A stage: the module whose ``run(job)`` is called, and the settings (dotted names) that it may read.

    The number of threads comes with every stage, because other numbers give other bits. The seed
    comes only with stages that draw. A stage with a `family` runs one member of it at a time: a
    package of modules, of which a job's digest holds only those that name its member. Of the settings
    in `by_member` (mappings) a job carries only the entry of its member.
    """

    module: str
    settings: tuple[str, ...]
    family: str = ""
    by_member: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Settings that a job of this stage carries."""
        return (*self.settings, *(key for key in ("threads",) if key not in self.settings))


# Who is held out, and what text is taken for: what every stage on the voxel maps reads.
_HEARD = tuple(f"decoding.voxels.{name}" for name in ("task", "features", "test_runs", "blocks"))
# Word vectors may be learnt from the corpus of the language model.
_LEARNT_FROM = ("decoding.free_text.corpus", "decoding.free_text.corpus_unheard")
_GATE = tuple(
    f"decoding.voxels.{name}"
    for name in (
        "beta", "sigma_voxels", "gate_lr", "readout_lr", "window_s", "hidden", "epochs", "folds", "gate", "head",
    )
)  # fmt: skip

_COMPARED = (*(f"alignment.{name}" for name in ("layers", "models", "correction", "n_bootstrap")), "seed")
# MEG at single times, as points of the map of RDMs and as models of the searchlight.
_TIMES = ("alignment.fusion.stimuli", "alignment.fusion.map_times_ms")

STAGES: dict[str, Stage] = {
    "simulate": Stage("decoders.simulate.stage", ("data.phantom", "data.mirror")),
    "manifest": Stage("decoders.data.stage", ("data",)),
    "preprocess": Stage("decoders.signal.stage", ("preprocess", "data.tr", "data.source")),
    "quality": Stage("decoders.signal.stage_quality", ()),
    "estimate": Stage("decoders.signal.stage_estimate", ("preprocess",)),
    "text": Stage("decoders.stimuli.stage_text", ()),
    "pictures": Stage("decoders.stimuli.stage_pictures", ("data.root", "alignment.controls")),
    "windows": Stage("decoders.stimuli.stage_windows", ("alignment.windows",)),
    "training-set": Stage("decoders.stimuli.stage_training", ("learning.training", "data.mirror", "seed")),
    "train": Stage(
        "decoders.learning.stage",
        ("learning.training", "learning.sizes", "learning.options", "seed"),
        RULES,
        ("learning.options",),
    ),
    "networks": Stage(
        "decoders.learning.stage_networks", ("learning.rules", "learning.architectures", "learning.seeds")
    ),
    "plausibility": Stage("decoders.learning.stage_plausibility", ("learning.rules", "learning.options")),
    **{
        f"splits-{analysis}": Stage(
            "decoders.decoding.stage_splits",
            (*read, "preprocess.drop_volumes", "preprocess.high_pass_s"),
        )
        for analysis, read in (
            ("names", ("decoding.names",)),
            ("free_text", ("decoding.free_text", *_HEARD)),
            ("encode", ("decoding.encoding", "seed")),
            ("voxels", (*_HEARD, *_LEARNT_FROM)),
            ("across", ("decoding.across", *_HEARD, *_LEARNT_FROM)),
            ("meg", ("decoding.meg", "preprocess.meg")),
        )
    },
    "leaks": Stage("decoders.stats.stage_leaks", ("decoding.allowed_leaks", "data.mirror")),
    "names": Stage("decoders.decoding.stage_names", ("decoding.names", "seed")),
    "encode": Stage("decoders.decoding.stage_encode", ("decoding.encoding", "data.mirror", "seed")),
    "clusters": Stage("decoders.decoding.stage_clusters", ("decoding.voxels.atlas", "decoding.voxels.task")),
    "stability": Stage(
        "decoders.decoding.stage_stability",
        (
            *_HEARD,
            *_GATE,
            *(f"decoding.voxels.{name}" for name in ("betas", "halves", "n_null_gates", "select_share")),
            "seed",
        ),
    ),
    "language": Stage(
        "decoders.decoding.stage_language",
        (
            "decoding.free_text.epochs",
            "decoding.free_text.max_words",
            "decoding.voxels.features",
            "data.mirror",
            "seed",
        ),
    ),
    "free_text": Stage(
        "decoders.decoding.stage_free_text",
        ("decoding.free_text", *_HEARD, "decoding.voxels.folds", "data.mirror", "seed"),
    ),
    "gate": Stage("decoders.decoding.stage_gate", (*_HEARD, *_GATE, "seed")),
    "voxels": Stage(
        "decoders.decoding.stage_voxels",
        (*_HEARD, "decoding.voxels.folds", "decoding.voxels.select_share", "data.phantom", "seed"),
    ),
    "decoding-group": Stage("decoders.decoding.stage_group", ()),
    # One setting of each block says that it is there; whoever changes these has other scores anyway.
    "decoding": Stage(
        "decoders.decoding.stage_tables",
        ("decoding.names.split", "decoding.encoding.delays", "decoding.voxels.test_runs", "decoding.meg.test_runs"),
    ),
    "across": Stage(
        "decoders.decoding.stage_across",
        ("decoding.across", *_HEARD, *_GATE, "decoding.voxels.select_share", "data.phantom", "seed"),
    ),
    "meg": Stage("decoders.decoding.stage_meg", ("decoding.meg", "preprocess.meg", "data.mirror", "seed")),
    "across-group": Stage("decoders.decoding.stage_across_group", ("decoding.across", "seed")),
    "rdms": Stage(
        "decoders.alignment.stage_rdms",
        tuple(f"alignment.{key}" for key in ("recordings", "task", "regions", "rdm", "windows")),
    ),
    "align": Stage(
        "decoders.alignment.stage",
        (*_COMPARED, "alignment.comparators", "alignment.weighted_halves", *_TIMES),
    ),
    "align-encoding": Stage(
        "decoders.alignment.encoding.stage",
        (*_COMPARED, *(f"alignment.{key}" for key in ("task", "regions", "controls", "encoding"))),
    ),
    "fusion": Stage(
        "decoders.alignment.fusion.stage",
        (
            *_COMPARED,
            *(f"alignment.{key}" for key in ("comparators", "alpha")),
            *(f"alignment.fusion.{key}" for key in ("n_permutations", "reference", "stimuli", "models")),
        ),
    ),
    "rdms-time": Stage(
        "decoders.alignment.timed.stage_rdms",
        (
            "alignment.rdm",
            *(f"alignment.time.{key}" for key in ("task", "window_s", "ignore", "noise", "folds", "n_folds")),
        ),
    ),
    "align-time": Stage(
        "decoders.alignment.timed.stage",
        (
            *(f"alignment.{key}" for key in ("layers", "models", "comparators", "alpha", "n_bootstrap")),
            *(f"alignment.time.{key}" for key in ("statistic", "cluster_p", "n_permutations")),
            "seed",
        ),
    ),
    "sensor-searchlight": Stage(
        "decoders.alignment.timed.stage_sensors",
        (
            *(f"alignment.{key}" for key in ("layers", "models", "rdm", "comparators")),
            *(
                f"alignment.time.{key}"
                for key in (
                    "task",
                    "window_s",
                    "ignore",
                    "noise",
                    "folds",
                    "n_folds",
                    "cluster_p",
                    "n_permutations",
                    "sensors",
                )
            ),
            "seed",
        ),
    ),
    "searchlight-models": Stage(
        "decoders.alignment.stage_searchlight_models",
        ("alignment.layers", "alignment.models", "alignment.comparators", *_TIMES),
    ),
    "searchlight": Stage(
        "decoders.alignment.stage_searchlight",
        (
            *(f"alignment.{key}" for key in ("task", "rdm", "comparators")),
            *(f"alignment.searchlight.{key}" for key in ("radius_mm", "min_share", "n_chunks")),
        ),
    ),
    "searchlight-maps": Stage(
        "decoders.alignment.stage_searchlight_maps",
        (
            *(f"alignment.{key}" for key in ("regions", "rdm", "comparators", "alpha")),
            *(f"alignment.searchlight.{key}" for key in ("models", "statistic", "n_permutations")),
            "seed",
        ),
    ),
    **{
        name: Stage(
            f"decoders.alignment.certificate.{module}",
            ("certificate", "alignment.comparators", "alignment.correction", "seed"),
        )
        for name, module in (("certify-cell", "stage_cell"), ("certificate", "stage"))
    },
    "verdict": Stage("decoders.stats.stage_verdict", ("alignment.alpha",)),
    "report": Stage(
        "decoders.report.stage",
        (
            "study",
            "report",
            "data",
            "preprocess",
            "decoding",
            "learning",
            "alignment",
            "certificate",
            "seed",
            "threads",
        ),
    ),
}


def stage_digest(stage: str, member: str = "") -> str:
    """Return the digest of the code that a job of a stage runs.

    Parameters
    ----------
    stage : str
        Key of `STAGES`.
    member : str
        For a stage with a family: its member, e.g. the learning rule. Editing one rule must not
        train the networks of the others anew.
    """
    entry = STAGES[stage]
    if not entry.family:
        return source_digest(entry.module)
    members = {name for name in import_closure(entry.module) if name.startswith(entry.family + ".")}
    rule = _without_modifiers(member)
    wanted = {name for name in members if rule in _text_constants(_path_of(name))}
    shared = import_closure(entry.module, without=frozenset(members))
    return _digest_of(shared.union(*map(import_closure, wanted)))


def _without_modifiers(member: str) -> str:
    """Return the rule in a combined name such as untrained_<rule>: its module is what the job runs."""
    for prefix in _MODIFIERS:
        member = member.removeprefix(prefix)
    return member


def source_digest(module: str) -> str:
    """Return a digest of the code of a module and of all it imports from this package.

    Snakemake does not see imported modules, so an edited library would leave stale results
    behind. The digest is of the syntax tree without docstrings: comments, docstrings and
    layout do not count.
    """
    return _digest_of(import_closure(module))


def _digest_of(modules: set[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(modules - _LISTS):
        digest.update(name.encode())
        digest.update(_tree_digest(_path_of(name)).encode())
    for path in _data_files(modules):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def import_closure(module: str, without: frozenset[str] = frozenset()) -> set[str]:
    """Return the modules of this package that `module` imports, directly or not, itself included.

    The modules `without` are neither entered nor returned.
    """
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name in without or _is_not_digested(name):
            continue
        seen.add(name)
        waiting.extend(_imports(_path_of(name)))
    return seen


def _is_not_digested(name: str) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in _NOT_DIGESTED)


def _path_of(name: str) -> Path:
    stem = ROOT.joinpath(*name.split(".")[1:])
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def _exists(name: str) -> bool:
    return _path_of(name).exists()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Return imported modules of this package, those inside functions and in tables of names too."""
    found: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            found.add(node.module)
            found.update(full for alias in node.names if _exists(full := f"{node.module}.{alias.name}"))
        elif isinstance(node, ast.Constant) and _names_a_module(node.value):
            found.add(node.value)
    return tuple(sorted(name for name in found if _exists(name)))


def _names_a_module(value: object) -> TypeGuard[str]:
    """Modules that are imported by name at run time (registries) are named by a string."""
    if not isinstance(value, str) or not value.startswith(PACKAGE + "."):
        return False
    return value.replace(".", "").replace("_", "").isalnum() and _exists(value)


def _data_files(modules: set[str]) -> list[Path]:
    """Return the data files (texts, templates) that the modules name: they are code as well.

    A file counts when a module of its folder, or of one above, names it or a folder that it lies in.
    """
    found: set[Path] = set()
    for name in modules:
        folder = _path_of(name).parent
        if folder != ROOT:
            named = _text_constants(_path_of(name))
            found |= {path for path in _data_below(folder) if named & set(path.relative_to(folder).parts)}
    return sorted(found)


@cache
def _data_below(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in folder.rglob("*") if path.suffix in _DATA_SUFFIXES)


@cache
def _text_constants(path: Path) -> frozenset[str]:
    constants = (node.value for node in ast.walk(_tree(path)) if isinstance(node, ast.Constant))
    return frozenset(part for value in constants if isinstance(value, str) for part in value.split("/"))


@cache
def _tree_digest(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
