import json

import pytest

from decoders.cli import main
from decoders.doctor import examine
from decoders.stages import STAGES


def test_every_stage_is_a_verb(capsys):
    for name in STAGES:
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0
        assert "--settings" in capsys.readouterr().out


def test_a_user_error_is_one_sentence_and_code_2(tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text("study: x\ndata: {source: bids, root: b}\nalignmnt: {}\n")
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr().err
    assert "Did you mean 'alignment'?" in told
    assert "Traceback" not in told


def test_a_stage_refuses_settings_that_are_not_its_own(capsys):
    assert main(["manifest", "--settings", '{"seed": 1}']) == 2
    assert "This stage takes the settings" in capsys.readouterr().err
    assert main(["manifest", "--settings", '{"seed": ']) == 2
    assert "neither a study file nor JSON" in capsys.readouterr().err


def test_an_option_without_value_is_refused(capsys, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("study: x\ndata: {source: bids, root: b}\n")
    assert main(["manifest", "--settings", str(path), "--output", "manifest"]) == 2
    assert "expected NAME=VALUE" in capsys.readouterr().err


def test_a_defect_is_told_apart_from_a_user_error(capsys, monkeypatch):
    monkeypatch.setattr("decoders.config.json_schema", lambda: 1 / 0)
    assert main(["schema"]) == 1
    assert "defect of Corticode" in capsys.readouterr().err


def test_the_log_file_holds_the_error(tmp_path):
    log = tmp_path / "logs" / "a.log"
    assert main(["manifest", "--settings", "{}", "--log", str(log)]) == 2
    assert "This stage takes the settings" in log.read_text()


def test_init_check_and_schema_fit_together(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    capsys.readouterr()
    assert main(["check", "config/studies/mine.yaml"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] == "mine"
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "StudySettings"


def test_the_doctor_finds_a_lock_and_a_missing_mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("CORTICODE_MIRROR", str(tmp_path / "nowhere"))
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.input.lock").touch()
    bad = {finding.what: str(finding) for finding in examine(tmp_path) if not finding.good}
    assert "snakemake --unlock" in bad["Snakemake's lock"]
    assert "not there" in bad["mirror"]
    assert "Python" not in bad
