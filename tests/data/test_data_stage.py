from collections.abc import Callable
from pathlib import Path

import pytest

from decoders.config import parse_settings
from decoders.data.manifest import read_manifest
from decoders.errors import CorticodeError, InputError
from decoders.stage import SettingsSlice, run_stage

Bids = Callable[..., Path]
FILES = {"sub-01/func/sub-01_task-a_bold.nii.gz": 3, "task-a_bold.json": {"RepetitionTime": 2.0}}


def settings(**data: object) -> SettingsSlice:
    return SettingsSlice.of("manifest", parse_settings({"study": "test", "data": data}))


def test_the_stage_writes_a_manifest_with_its_provenance(bids: Bids, tmp_path: Path) -> None:
    root, manifest = bids(FILES), tmp_path / "results" / "manifest.tsv"
    run_stage(settings(source="bids", root=str(root)), {}, {"manifest": manifest})
    (run,) = read_manifest(manifest)
    assert run.run_id == "sub-01_task-a"
    assert manifest.with_name("manifest.tsv.prov.json").exists()
    again = tmp_path / "again.tsv"
    run_stage(settings(source="bids", root=str(root)), {}, {"manifest": again})
    assert again.read_bytes() == manifest.read_bytes()


def test_the_phantom_is_read_from_the_input(bids: Bids, tmp_path: Path) -> None:
    study, manifest = settings(source="phantom", phantom={}), tmp_path / "manifest.tsv"
    run_stage(study, {"bids": [bids(FILES)]}, {"manifest": manifest})
    assert [run.subject for run in read_manifest(manifest)] == ["01"]
    with pytest.raises(InputError, match="one input 'bids'"):
        run_stage(study, {}, {"manifest": tmp_path / "other.tsv"})


def test_bad_input_leaves_nothing_behind(bids: Bids, tmp_path: Path) -> None:
    root = bids({"sub-01/func/sub-01_task-a_bold.nii.gz": 3})
    with pytest.raises(CorticodeError, match="RepetitionTime"):
        run_stage(settings(source="bids", root=str(root)), {}, {"manifest": tmp_path / "out" / "m.tsv"})
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
