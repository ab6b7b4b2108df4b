import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.errors import InputError
from decoders.stimuli.textgrid import (
    Interval,
    TextGrid,
    Tier,
    format_textgrid,
    parse_textgrid,
    read_textgrid,
    word_tier,
    write_textgrid,
)

SECONDS = st.floats(0, 1e5, allow_nan=False)
# All of Unicode but surrogates and NUL; labels may hold quotes, line ends, numbers and flags.
LABELS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12) | st.sampled_from(
    ['"', '""', '"a" b', "12.5", "<exists>", "xmin = 3", "a\nb", "!", "你好"]
)


@st.composite
def tiers(draw):
    points = draw(st.booleans())
    n = draw(st.integers(0, 6))
    if points:
        times = sorted(draw(st.lists(SECONDS, min_size=n, max_size=n)))
        intervals = tuple(Interval(t, t, draw(LABELS)) for t in times)
    else:
        times = sorted(draw(st.lists(SECONDS, min_size=2 * n, max_size=2 * n)))
        intervals = tuple(Interval(a, b, draw(LABELS)) for a, b in zip(times[::2], times[1::2], strict=True))
    return Tier(draw(LABELS), intervals, 0.0, 1e5, points)


@given(st.lists(tiers(), max_size=3), st.booleans())
def test_what_is_written_is_read_back(some, short):
    grid = TextGrid(tuple(some), 0.0, 1e5)
    assert parse_textgrid(format_textgrid(grid, short)) == grid


@given(st.text(max_size=200) | st.binary(max_size=100))
def test_garbage_is_an_input_error_and_nothing_else(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("grids") / "g.TextGrid"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    with pytest.raises(InputError):
        read_textgrid(path)


@given(st.integers(0, 10**6), st.booleans())
def test_a_file_cut_anywhere_is_an_input_error_or_whole(cut, short):
    text = format_textgrid(GRID, short)
    cut %= len(text)
    try:
        grid = parse_textgrid(text[:cut])
    except InputError:
        return
    # Only what follows the last label may be lost, or digits of the last number of a point.
    assert [len(tier.intervals) for tier in grid.tiers] == [3]
    assert text[cut:].strip() == ""


GRID = TextGrid(
    (Tier("word", (Interval(0, 1, "sp"), Interval(1, 1.5, 'say "hi"'), Interval(1.5, 2, "你")), 0, 2),), 0, 2
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_praat(tmp_path, encoding):
    path = tmp_path / "a.TextGrid"
    path.write_bytes(format_textgrid(GRID).encode(encoding))
    assert read_textgrid(path) == GRID


def test_writer_makes_a_file_of_either_format(tmp_path):
    write_textgrid(tmp_path / "a.TextGrid", GRID)
    write_textgrid(tmp_path / "b.TextGrid", GRID, short=True)
    assert read_textgrid(tmp_path / "a.TextGrid") == read_textgrid(tmp_path / "b.TextGrid") == GRID
    assert "xmin" not in (tmp_path / "b.TextGrid").read_text()


@pytest.mark.parametrize(
    ("intervals", "sentence"),
    [
        ((Interval(0, 2, "a"), Interval(1, 3, "b")), "'a' until 2 s, 'b' from 1 s, tier 'word'"),
        ((Interval(2, 1, "a"),), "'a' from 2 to 1 s"),
    ],
)
def test_overlap_and_negative_durations_are_named(tmp_path, intervals, sentence):
    path = tmp_path / "bad.TextGrid"
    write_textgrid(path, TextGrid((Tier("word", intervals, 0, 3),), 0, 3))
    with pytest.raises(InputError, match=sentence) as error:
        read_textgrid(path)
    assert "bad.TextGrid" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("TextGrid", "Pitch 1", "the object class 'TextGrid'"),
        ("IntervalTier", "FormantTier", "'IntervalTier' or 'TextTier'"),
        ("size = 3", "size = 3.5", "a whole number"),
        ("size = 3", "size = 4", "the end of the file"),
        ("xmin = 1.5", "xmin = soon", "a number for xm"),
    ],
)
def test_faults_are_named(old, new, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_textgrid(format_textgrid(GRID).replace(old, new))


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_textgrid(tmp_path / "none.TextGrid")


def _named(*names, points=()):
    return TextGrid(tuple(Tier(name, (), 0, 1, name in points) for name in names), 0, 1)


def test_the_word_tier_is_found_by_name_or_by_being_alone():
    assert word_tier(_named("phones", "Words")).name == "Words"
    assert word_tier(_named("speaker", "clicks", points=("clicks",))).name == "speaker"
    assert word_tier(_named("phones", "tokens"), "tokens").name == "tokens"


@pytest.mark.parametrize("grid", [_named(), _named("a", "b"), _named("word", "words")])
def test_a_doubtful_word_tier_is_refused(grid):
    with pytest.raises(InputError, match="one interval tier named 'word'"):
        word_tier(grid)


@pytest.mark.mirror
def test_the_alice_textgrid(mirror):
    path = mirror / "alice_fmri_brennan2016/alice_stim_shared/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
    tier = word_tier(read_textgrid(path))
    assert len(tier.intervals) == 2423
    assert tier.intervals[1] == Interval(20.05891632653599, 20.621637414967992, "Alice")
