from collections.abc import Callable
from pathlib import Path

import pytest

from decoders.data.stimulus import find_stimulus
from decoders.errors import InputError

Bids = Callable[..., Path]


def events(*rows: tuple[object, object], column: str = "stim_file") -> str:
    return "\n".join([f"onset\tduration\t{column}", *(f"{onset}\t1\t{name}" for onset, name in rows)]) + "\n"


def find(root: Path) -> tuple[str, str, float]:
    found = find_stimulus(root, root / "events.tsv", root)
    return found.name, found.text, found.start_time


@pytest.mark.parametrize("named", ["alice_words.tsv", "stimuli/alice_words.tsv"])
def test_a_table_of_words(bids: Bids, named: str) -> None:
    root = bids({"events.tsv": events((12.5, named), (13, "n/a")), "stimuli/alice_words.tsv": "onset\n"})
    assert find(root) == ("alice", "stimuli/alice_words.tsv", -12.5)


def test_a_story_that_starts_with_the_run(bids: Bids) -> None:
    root = bids({"events.tsv": events((0, "s_words.tsv")), "stimuli/s_words.tsv": ""})
    assert repr(find(root)[2]) == "0.0"


@pytest.mark.parametrize("text", ["deep/fox.TextGrid", "deep/fox_words.tsv"])
def test_a_sound_with_its_text_beside_it(bids: Bids, text: str) -> None:
    root = bids({"events.tsv": events((2, "deep/fox.wav")), f"stimuli/{text}": ""})
    assert find(root) == ("fox", f"stimuli/{text}", -2.0)


def test_pictures(bids: Bids) -> None:
    files = {"events.tsv": events((2, "pictures/a.png"), (4, "pictures/b.PNG"))}
    assert find(bids(files)) == ("", "", 0.0)
    assert find(bids({**files, "stimuli/pictures.tsv": "stimulus\n"})) == ("pictures", "", 0.0)


def test_runs_without_files(bids: Bids) -> None:
    assert find(bids({"events.tsv": events((1, "face"), column="trial_type")}))[:2] == ("", "")
    assert find(bids({"events.tsv": events((1, "n/a"))}))[:2] == ("", "")


def test_a_text_that_is_missing(bids: Bids) -> None:
    root = bids({"events.tsv": events((0, "gone_words.tsv"))})
    with pytest.raises(InputError, match=r"the text gone_words.tsv of the stimulus, found no such file"):
        find(root)


@pytest.mark.parametrize("named", ["../../secret_words.tsv", "/etc/secret_words.tsv", "a/../../b.png"])
def test_a_file_outside_the_data_set(bids: Bids, named: str) -> None:
    with pytest.raises(InputError, match="inside the data set"):
        find(bids({"events.tsv": events((0, named))}))


def test_two_texts_in_one_run(bids: Bids) -> None:
    files = {"stimuli/a_words.tsv": "", "stimuli/b_words.tsv": ""}
    with pytest.raises(InputError, match=r"one text per run, found stimuli/a_words.tsv and stimuli/b_words.tsv"):
        find(bids({"events.tsv": events((0, "a_words.tsv"), (9, "b_words.tsv")), **files}))


def test_a_story_without_an_onset(bids: Bids) -> None:
    with pytest.raises(InputError, match="an onset in seconds"):
        find(bids({"events.tsv": events(("n/a", "a_words.tsv")), "stimuli/a_words.tsv": ""}))


def test_events_that_are_no_table(bids: Bids) -> None:
    with pytest.raises(InputError, match="a BIDS events table"):
        find(bids({"events.tsv": ""}))
