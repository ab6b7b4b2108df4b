import pytest
import yaml

from decoders.config import StudySettings, load_settings
from decoders.errors import SettingsError
from decoders.template import commented_yaml, write_template


def test_the_template_is_a_valid_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_template("mine")
    assert load_settings(path).study == "mine"


def test_the_template_explains_every_setting(tmp_path):
    text = write_template(str(tmp_path / "mine.yaml")).read_text()
    for key in StudySettings.model_fields:
        assert f"{key}:" in text
    assert "# Cut-off period of the DCT high-pass in seconds" in text


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    with pytest.raises(SettingsError, match="exists already"):
        write_template(str(path))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["../mine", "a b", "", "a/b.yaml/..yaml"])
def test_a_name_that_leaves_its_folder_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError):
        write_template(name)


def test_the_demo_study_is_what_the_template_writer_makes_of_its_values(project_root):
    text = (project_root / "config/config.yaml").read_text()
    assert text == commented_yaml(yaml.safe_load(text)), "run: python -m decoders.template config/config.yaml"
