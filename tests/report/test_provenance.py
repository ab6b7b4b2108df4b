import pytest

from decoders.config import DataSettings, PhantomSettings, PreprocessSettings
from decoders.errors import IntegrityError
from decoders.report.provenance import collect, differences, raw_inputs, summary
from decoders.stage import provenance_path
from decoders.store.atomic import write_text
from decoders.store.tables import write_json


def artefact(folder, name, stage, inputs=()):
    path = folder / name
    write_text(path, name)
    write_json(
        provenance_path(path),
        {
            "stage": stage,
            "labels": {},
            "inputs": {"x": [{"path": str(p), "sha256": "1" * 64} for p in inputs]},
            "sha256": "2" * 64,
        },
    )
    return path


def test_only_what_the_page_rests_on_is_collected(tmp_path):
    raw = tmp_path / "raw.nii"
    manifest = artefact(tmp_path, "manifest.tsv", "manifest", [raw])
    table = artefact(tmp_path, "table.tsv", "names", [manifest])
    artefact(tmp_path, "stale.tsv", "train", [manifest])
    runs = collect([table])
    assert [run.stage for run in runs] == ["manifest", "names"]
    assert raw_inputs(runs) == [(str(raw), "1" * 64)]


def test_the_outputs_of_one_run_are_one_record(tmp_path):
    one, two = (artefact(tmp_path, name, "train") for name in ("a.json", "b.h5"))
    (run,) = collect([one, two])
    assert set(run.outputs) == {str(one), str(two)}
    assert summary([run], "s", {})["stages"][0]["outputs"] == run.outputs


def test_a_circle_ends(tmp_path):
    one = artefact(tmp_path, "a.json", "train")
    artefact(tmp_path, "a.json", "train", [one])
    assert len(collect([one])) == 1


def test_a_damaged_record_is_named(tmp_path):
    path = artefact(tmp_path, "a.json", "train")
    write_text(provenance_path(path), "{")
    with pytest.raises(IntegrityError, match=r"a\.json\.prov\.json"):
        collect([path])


def test_differences_name_what_was_set():
    data = DataSettings(source="phantom", phantom=PhantomSettings(r0=0.3))
    assert differences(data, "data") == [("data.source", "phantom", "(required)"), ("data.phantom.r0", 0.3, 0.2)]
    assert differences(PreprocessSettings(), "preprocess") == []
    assert differences(None, "learning") == []
