import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.data.entities import ENTITIES, BidsName, check_label, format_name, parse_name
from decoders.errors import InputError

label = st.from_regex(r"[A-Za-z0-9]{1,6}(\+[A-Za-z0-9]{1,3})?", fullmatch=True)
extension = st.sampled_from(["", ".nii", ".nii.gz", ".func.gii", ".dtseries.nii", ".tsv", ".json"])
names = st.builds(
    BidsName,
    st.dictionaries(st.sampled_from(ENTITIES), label, max_size=8),
    st.from_regex(r"[A-Za-z0-9]{1,10}", fullmatch=True),
    extension,
)


@given(names)
def test_format_then_parse_gives_the_same_name(name: BidsName) -> None:
    parsed = parse_name(format_name(name))
    assert (dict(parsed.entities), parsed.suffix, parsed.extension) == (
        dict(name.entities),
        name.suffix,
        name.extension,
    )
    assert format_name(parsed) == format_name(name)


@given(st.text(max_size=30))
def test_any_text_is_a_name_or_a_sentence(text: str) -> None:
    try:
        name = parse_name(text)
    except InputError as error:
        assert "Rename the file" in str(error)
    else:
        assert parse_name(format_name(name)) == name


def test_the_parts_of_a_name() -> None:
    name = parse_name("sub-01/func/sub-01_task-story_run-02_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz")
    assert dict(name.entities) == {
        "sub": "01", "task": "story", "run": "02", "space": "MNI152NLin6Asym", "desc": "preproc",
    }  # fmt: skip
    assert (name.suffix, name.extension, name.get("ses")) == ("bold", ".nii.gz", "")


@pytest.mark.parametrize(
    "name",
    [
        "sub-0 1_bold.nii.gz",
        "sub-01_task-a..b_bold.nii.gz",
        "sub-01_task-a.b_bold.nii.gz",
        "sub-../../x_bold.nii.gz",
        "sub-01_task-_bold.nii.gz",
        "sub-01_sub-02_bold.nii.gz",
        "sub-01_bold-x.nii.gz",
        "sub-01_task-naïve_bold.nii.gz",
        "sub-01_story_bold.nii.gz",
        "sub-01_",
        "",
    ],
)
def test_names_that_are_not_bids_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="BIDS file name"):
        parse_name(name)


def test_inheritance_asks_for_all_entities() -> None:
    image = parse_name("sub-01_task-story_run-1_bold.nii.gz")
    assert parse_name("task-story_bold.json").applies_to(image)
    assert not parse_name("task-rest_bold.json").applies_to(image)
    assert not parse_name("sub-01_task-story_acq-fast_bold.json").applies_to(image)


def test_labels_with_their_prefix_get_a_hint() -> None:
    assert check_label("01", "sub", "x") == "01"
    with pytest.raises(InputError, match="Leave 'sub-' out"):
        check_label("sub-01", "sub", "data.subjects")
