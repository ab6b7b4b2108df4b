from decoders.config import parse_settings
from decoders.stage import SettingsSlice, run_stage


def test_the_stage_writes_a_phantom_and_replaces_it(tmp_path):
    values = {"grid": [8, 10, 8], "story_runs": 3, "picture_subjects": 0, "text": "embedded_zh"}
    study = parse_settings({"study": "tiny", "data": {"source": "phantom", "phantom": values}})
    for _ in range(2):
        run_stage(SettingsSlice.of("simulate", study), {}, {"bids": tmp_path / "bids"})
    assert (tmp_path / "bids/stimuli/story03_characters.tsv").is_file()
    assert "：" in (tmp_path / "bids/stimuli/story01_words.tsv").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["bids"]
