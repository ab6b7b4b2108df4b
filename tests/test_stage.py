import json
import logging
import sys
import types

import numpy as np
import pytest

from decoders import stages
from decoders.config import parse_settings
from decoders.errors import CorticodeError, InputError
from decoders.stage import Job, SettingsSlice, provenance_path, run_stage
from decoders.store.atomic import sha256_of, write_text

STUDY = parse_settings({"study": "x", "seed": 3, "data": {"source": "bids", "root": "bids"}})


@pytest.fixture
def stage(monkeypatch):
    """Register a stage whose function the test gives."""

    def register(function):
        module = types.ModuleType("decoders.stage_of_the_test")
        module.run = function
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(stages.STAGES, "test", stages.Stage(module.__name__, ("data", "seed")))
        monkeypatch.setattr("decoders.stage.stage_digest", lambda name, member: "0")
        return SettingsSlice.of("test", STUDY)

    return register


def test_a_stage_writes_its_outputs_and_their_provenance(tmp_path, stage):
    source = tmp_path / "in.txt"
    source.write_text("in")
    settings = stage(lambda job: write_text(job.outputs["out"], job.input("source").read_text() + job.labels["run"]))
    run_stage(settings, {"source": [source]}, {"out": tmp_path / "out.txt"}, {"run": "1"})
    record = json.loads(provenance_path(tmp_path / "out.txt").read_text())
    assert (tmp_path / "out.txt").read_text() == "in1"
    assert record["sha256"] == sha256_of(tmp_path / "out.txt")
    assert record["inputs"]["source"][0]["sha256"] == sha256_of(source)
    assert record["settings"]["seed"] == 3
    assert record["settings"]["data"]["root"] == "bids"
    assert {"packages", "wall_seconds", "peak_mb", "source_digest", "host"} <= set(record)


def test_a_stage_reads_only_what_it_declared(stage):
    settings = stage(lambda job: None)
    assert settings.data.root == "bids"
    with pytest.raises(AttributeError, match="did not declare the setting 'alignment'"):
        _ = settings.alignment


def test_a_stage_gets_a_part_of_a_block_by_its_dotted_name():
    study = parse_settings({"study": "x", "data": {"source": "bids", "root": "bids"}, "learning": {"sizes": [64]}})
    settings = SettingsSlice.of("train", study)
    assert settings.learning.sizes == (64,)
    assert settings.learning.training.epochs == 2
    with pytest.raises(AttributeError, match="did not declare the setting 'rules'"):
        _ = settings.learning.rules
    assert SettingsSlice.of("train", STUDY).learning.sizes is None


def test_an_output_that_was_not_written_is_a_defect(tmp_path, stage):
    with pytest.raises(CorticodeError, match="did not write"):
        run_stage(stage(lambda job: None), {}, {"out": tmp_path / "out.txt"})


def test_threads_are_fixed_while_a_stage_runs(tmp_path, stage):
    import threadpoolctl

    seen = []

    def look(job):
        np.ones((50, 50)) @ np.ones((50, 50))
        seen.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info())

    run_stage(stage(look), {}, {})
    assert seen
    assert set(seen) == {1}


def _job(seed=0):
    return Job(SettingsSlice.of("manifest", STUDY), {}, {}, seed=seed, log=logging.getLogger())


def test_random_numbers_depend_on_seed_and_keys_not_on_order():
    first = _job().rng("a", 1).random(3)
    other = _job()
    other.rng("b").random(10)
    assert np.array_equal(other.rng("a", 1).random(3), first)
    assert not np.array_equal(other.rng("a", 2).random(3), first)
    assert not np.array_equal(_job(1).rng("a", 1).random(3), first)
    assert _job().torch_seed("a") == _job().torch_seed("a") != _job(1).torch_seed("a")


def test_a_missing_input_is_a_sentence():
    with pytest.raises(InputError, match="Give --input manifest=PATH once"):
        _job().input("manifest")
