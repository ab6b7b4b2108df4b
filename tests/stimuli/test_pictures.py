import numpy as np
import pandas as pd
import pytest
from PIL import Image

from decoders.config import parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.errors import InputError
from decoders.stage import SettingsSlice, run_stage
from decoders.stimuli.images import find_pictures, read_labels, read_pictures
from decoders.stimuli.stage_pictures import picture_root
from decoders.store.arrays import read_arrays
from decoders.store.tables import read_table

NAMES = ["tree", "cat", "house"]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "set" / "stimuli" / "pictures"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 255, (20, 16, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    table = "stimulus\tcategory\tanimate\ncat.png\tanimal\t1\ntree\tplant\t0\nhouse\tplace\t0\n"
    (tmp_path / "set" / "stimuli" / "pictures.tsv").write_text(table)
    return tmp_path / "set"


def test_pictures_come_in_the_order_of_their_table(root):
    pictures = find_pictures(root)
    assert pictures.names == ["cat", "tree", "house"]
    assert pictures.values.shape == (3, 20, 16, 3)
    expected = np.array(Image.open(root / "stimuli/pictures/cat.png"))
    np.testing.assert_array_equal(pictures.values[0], expected)
    assert pictures.labels["animate"].tolist() == [1, 0, 0]


def test_without_a_table_all_pictures_in_the_order_of_their_names(root):
    (root / "stimuli/pictures.tsv").unlink()
    (root / "stimuli/pictures/.hidden.png").write_bytes(b"x")
    assert find_pictures(root).names == sorted(NAMES)


def test_a_picture_of_the_table_that_is_missing_is_named(root):
    (root / "stimuli/pictures/tree.png").unlink()
    with pytest.raises(InputError, match="none for 'tree'"):
        find_pictures(root)


def test_two_files_of_one_name_are_refused(root):
    Image.new("RGB", (16, 20)).save(root / "stimuli/pictures/cat.jpg")
    with pytest.raises(InputError, match="one picture per name"):
        find_pictures(root)


def test_sizes_that_differ_are_refused_with_both(root):
    Image.new("RGB", (10, 20)).save(root / "stimuli/pictures/tree.png")
    with pytest.raises(InputError, match=r"16 x 20 pixels, as cat\.png, found 10 x 20 pixels"):
        find_pictures(root)


def test_a_broken_picture_is_refused(root):
    path = root / "stimuli/pictures/tree.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"tree\.png: expected a readable picture"):
        find_pictures(root)


def test_grey_palette_and_transparent_pictures_become_rgb(tmp_path):
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("P", (4, 4)).save(tmp_path / "palette.png")
    values = read_pictures([tmp_path / f"{name}.png" for name in ("grey", "clear", "palette")])
    assert values[:2, 0, 0].tolist() == [[7, 7, 7], [255, 255, 255]]


@pytest.mark.parametrize("text", ["name\tx\na\t1\n", "stimulus\na\na\n", ""])
def test_tables_without_one_row_per_stimulus_are_refused(tmp_path, text):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(InputError):
        read_labels(tmp_path / "t.tsv")


def test_derivatives_hold_no_pictures_the_raw_set_does(root, tmp_path):
    runs = [Run("a", "01", root=str(tmp_path / "derivatives"))]
    assert picture_root(runs, str(root)) == root
    assert picture_root([*runs, Run("b", "01", root=str(root))], None) == root
    with pytest.raises(InputError, match="a folder 'stimuli'"):
        picture_root(runs, None)


def test_the_stage_writes_pictures_labels_and_controls(root, tmp_path):
    write_manifest(tmp_path / "manifest.tsv", [Run("a", "01", root=str(root))])
    study = {"study": "x", "data": {"source": "bids", "root": str(root)}}
    study["alignment"] = {"recordings": "rdms", "controls": ["pixel", "animacy"]}
    outputs = {"pictures": "pictures.h5", "labels": "pictures.tsv", "controls": "control_rdms.h5"}
    outputs = {name: tmp_path / file for name, file in outputs.items()}
    settings = SettingsSlice.of("pictures", parse_settings(study))
    run_stage(settings, {"manifest": [tmp_path / "manifest.tsv"]}, outputs)
    file = read_arrays(outputs["pictures"])
    assert file["pictures"].dtype == np.uint8
    assert file["names"].tolist() == ["cat", "tree", "house"]
    assert read_table(outputs["labels"])["category"].tolist() == ["animal", "plant", "place"]
    controls = read_arrays(outputs["controls"])
    assert set(controls.arrays) == {"names", "pixel", "animacy"}
    assert set(controls.attributes["definitions"]) == {"pixel", "animacy"}
    np.testing.assert_array_equal(controls["animacy"], [1, 1, 0])
    assert isinstance(read_table(outputs["labels"]), pd.DataFrame)
