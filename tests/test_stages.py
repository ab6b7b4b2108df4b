import ast
import subprocess
import sys
from importlib import import_module

import pytest

from decoders import stages
from decoders.stages import STAGES, import_closure, source_digest

# Ground first; a package imports from its own floor and from those below it.
FLOORS = [
    {"config", "errors", "store"},
    {"stages"},
    {"stage", "template"},
    {"data"},
    {"signal", "stimuli"},
    {"models", "stats"},
    {"simulate"},
    {"learning", "decoding", "alignment"},
    {"report"},
    {"doctor", "cli"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
APART = {"learning", "decoding", "alignment"}


def _modules():
    for path in sorted(stages.ROOT.rglob("*.py")):
        if path.parent != stages.ROOT or path.name != "__init__.py":
            yield path


def _package(path):
    relative = path.relative_to(stages.ROOT)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(stages.ROOT)))
def test_a_file_imports_only_from_lower_floors(path):
    own = _package(path)
    if own == "stages":
        assert "from decoders" not in path.read_text(), "it names the modules of the stages, and imports none"
        return
    for name in stages._imports(path):
        other = name.split(".")[1]
        assert other == own or FLOOR[other] <= FLOOR[own], f"{path.name} imports {name}"
        assert other == own or not {own, other} <= APART, f"{path.name} imports {name}: they meet in files on disk"


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(stages.ROOT)))
def test_the_library_imports_no_snakemake(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not any(name.split(".")[0] == "snakemake" for name in names)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(stages.ROOT)))
def test_files_stay_short_enough_for_a_head(path):
    assert len(path.read_text().splitlines()) <= 600


READERS = {
    "atlas": {"clusters"},
    "n_null_gates": {"stability"},
    "halves": {"stability"},
    "betas": {"stability"},
    "select_share": {"voxels", "stability", "across"},
    "epochs": {"gate", "stability", "across"},
    "beta": {"gate", "stability", "across"},
    "test_runs": {
        "splits-voxels", "splits-free_text", "splits-across", "gate", "voxels", "stability", "free_text", "across",
        "decoding",
    },
    "blocks": {
        "splits-voxels", "splits-free_text", "splits-across", "gate", "voxels", "stability", "free_text", "across",
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [
    ("atlas", "label.nii"), ("n_null_gates", 3), ("halves", False), ("betas", [1.0]), ("select_share", 0.1),
    ("epochs", 7), ("beta", 3.0), ("test_runs", 2), ("blocks", 6),
])  # fmt: skip
def test_a_setting_of_the_voxel_maps_reaches_the_stages_that_read_it_and_no_other(name, value):
    from decoders.config import parse_settings
    from decoders.stage import SettingsSlice

    def study(**voxels):
        return parse_settings({
            "study": "x", "data": {"source": "bids", "root": "bids"}, "preprocess": {},
            "decoding": {"voxels": voxels, "free_text": {}},
        })  # fmt: skip

    before, after = study(), study(**{name: value})
    changed = {
        stage for stage in STAGES
        if SettingsSlice.of(stage, before).dump() != SettingsSlice.of(stage, after).dump()
    }  # fmt: skip
    assert changed == READERS[name] | {"report"}


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_its_function(name):
    assert callable(import_module(STAGES[name].module).run)


def test_the_table_of_stages_imports_nothing_heavy():
    code = "import sys, decoders.stages; print({'numpy', 'torch', 'pydantic'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_a_rules_digest_holds_no_other_rule(monkeypatch):
    from decoders.learning.registry import MODULES, rule_infos

    seen = {}
    monkeypatch.setattr(stages, "_digest_of", lambda modules: seen.setdefault(frozenset(modules), str(len(seen))))
    for info in rule_infos():
        stages.stage_digest("train", info.name)
        closure = list(seen)[-1]
        assert closure & set(MODULES), info.name
    assert len(seen) == len({frozenset(closure) for closure in seen}) == len(MODULES)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small package in place of ours, to be edited."""
    files = {
        "__init__.py": "",
        "wing/__init__.py": "",
        "wing/stage.py": "from decoders.wing.part import f\nfrom decoders.store import tables\nTEXT = 'text.txt'\n\ndef run(job):\n    return f()\n",
        "wing/part.py": '"""Doc."""\n\ndef f():\n    """Doc."""\n    return 1\n',
        "wing/text.txt": "once upon a time",
        "wing/other.txt": "once upon a time",
        "wing/lazy.py": "def g():\n    from decoders.other.deep import h\n    return h()\n",
        "wing/registry.py": 'MODULES = ("decoders.other.deep",)\n',
        "other/__init__.py": "",
        "other/deep.py": "def h():\n    return 2\n",
        "store/__init__.py": "",
        "store/tables.py": "x = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(stages, "ROOT", tmp_path)

    def edit(name, old, new):
        path = tmp_path / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        for cached in (stages._tree, stages._imports, stages._tree_digest, stages._data_below, stages._text_constants):
            cached.cache_clear()

    edit("__init__.py", "", "")
    yield edit
    for cached in (stages._tree, stages._imports, stages._tree_digest, stages._data_below, stages._text_constants):
        cached.cache_clear()


def test_the_closure_follows_imports_in_functions_and_in_tables_of_names(library):
    assert import_closure("decoders.wing.stage") >= {
        "decoders.wing.stage",
        "decoders.wing.part",
        "decoders.store.tables",
    }
    assert "decoders.other.deep" in import_closure("decoders.wing.lazy")
    assert "decoders.other.deep" in import_closure("decoders.wing.registry")


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("wing/part.py", "return 1", "return 2", True),
        ("wing/part.py", "return 1", "return 1  # why", False),
        ("wing/part.py", '    """Doc."""', '    """Another."""', False),
        ("store/tables.py", "x = 1", "x = 2", True),
        ("other/deep.py", "return 2", "return 3", False),
        ("wing/text.txt", "once", "twice", True),
        ("wing/other.txt", "once", "twice", False),
    ],
)
def test_the_digest_changes_with_the_code_that_runs_and_with_nothing_else(library, name, old, new, changes):
    before = source_digest("decoders.wing.stage")
    library(name, old, new)
    assert (source_digest("decoders.wing.stage") != before) == changes
