import errno
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
    told = capsys.readouterr()
    assert json.loads(told.out)["study"] == "mine"
    assert "data.root: there is no folder" in told.err
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


def test_a_new_study_that_only_preprocesses_claims_nothing(tmp_path):
    out = tmp_path / "verdicts.tsv"
    settings = '{"alignment.alpha": null, "threads": 1}'
    assert main(["verdict", "--settings", settings, "--output", f"verdicts={out}"]) == 0
    assert out.read_text().startswith("level\t")
    assert len(out.read_text().splitlines()) == 1


def test_a_full_disk_is_no_defect(capsys, monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "results/x.h5")

    monkeypatch.setattr("decoders.config.json_schema", full)
    assert main(["schema"]) == 2
    told = capsys.readouterr().err
    assert "No space left on device: 'results/x.h5'. Make room" in told
    assert "defect" not in told


def test_a_setting_given_twice_and_a_label_without_quotes(tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text("study: x\ndata: {source: bids, root: a}\npreprocess: {}\npreprocess: {smoothing_fwhm_mm: 6.0}\n")
    assert main(["check", str(path)]) == 2
    assert "the key 'preprocess' comes twice" in capsys.readouterr().err
    path.write_text("study: x\ndata: {source: bids, root: a, subjects: [01, 02]}\n")
    assert main(["check", str(path)]) == 2
    assert "(found 1). Put it in quotes." in capsys.readouterr().err
