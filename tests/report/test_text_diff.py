from hypothesis import given
from hypothesis import strategies as st

from decoders.report.text_diff import edits, median_first, pieces


@given(st.text(alphabet="abc 开", max_size=30), st.text(alphabet="abc 开", max_size=30))
def test_pieces_hold_both_texts_whole(reference, decoded):
    found = pieces(reference, decoded)
    assert "".join(piece.reference for piece in found) == reference
    assert "".join(piece.decoded for piece in found) == decoded
    assert all(piece.reference == piece.decoded for piece in found if piece.kind == "same")
    assert (edits(found) == 0) == (reference == decoded)


def test_kinds_of_differences():
    assert [(p.kind, p.reference, p.decoded) for p in pieces("cat", "cart")] == [
        ("same", "ca", "ca"),
        ("added", "", "r"),
        ("same", "t", "t"),
    ]
    assert [p.kind for p in pieces("face", "fac")] == ["same", "missing"]
    assert [p.kind for p in pieces("cat", "cut")] == ["same", "changed", "same"]


@given(st.lists(st.integers(0, 9), max_size=20))
def test_the_median_comes_first_and_nobody_is_lost(counts):
    order = median_first(counts)
    assert sorted(order) == list(range(len(counts)))
    if counts:
        assert counts[order[0]] == sorted(counts)[len(counts) // 2]


def test_long_texts_are_compared_word_by_word():
    found = pieces("the cat sat on the mat", "the hat sat on a mat")
    assert [(piece.kind, piece.reference, piece.decoded) for piece in found if piece.kind != "same"] == [
        ("changed", "cat", "hat"),
        ("changed", "the", "a"),
    ]
    assert "".join(piece.decoded for piece in found) == "the hat sat on a mat"
    assert [piece.reference for piece in pieces("the cat", "the hat") if piece.kind == "changed"] == ["c"]
