"""Closed vocabularies as trees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.decoding.trie import END, build_trie

NAMES = ("cat", "chair", "cats", "面", "面孔")
vocabularies = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8),
    min_size=1,
    max_size=8,
)


def walk(trie, symbols):
    node = 0
    for symbol in symbols:
        if node < 0:
            return -1
        node = trie.next_node[node, symbol]
    return node


def language(trie):
    """Every text that the tree can write."""
    found, waiting = [], [(0, [])]
    while waiting:
        node, symbols = waiting.pop()
        for symbol in np.flatnonzero(trie.next_node[node] >= 0):
            if symbol == END:
                found.append(trie.text([*symbols, END]))
            else:
                waiting.append((trie.next_node[node, symbol], [*symbols, int(symbol)]))
    return found


def test_the_tree_writes_the_names_and_nothing_else():
    trie = build_trie(NAMES)
    assert sorted(language(trie)) == sorted(NAMES)
    assert trie.n_symbols == len(set("".join(NAMES))) + 1


@settings(max_examples=60, deadline=None)
@given(vocabularies)
def test_any_script_makes_a_round_trip(names):
    import unicodedata

    names = list(dict.fromkeys(unicodedata.normalize("NFC", name) for name in names))
    trie = build_trie(names)
    assert sorted(language(trie)) == sorted(names)
    for row, name in zip(trie.targets, names, strict=True):
        assert trie.text(row) == name
        assert trie.index(name) == names.index(name)


def test_allowed_symbols_are_those_of_the_tree():
    trie = build_trie(NAMES)
    allowed = trie.allowed()
    for name, symbols in enumerate(trie.targets):
        real = symbols[symbols >= 0]
        for step in range(len(real)):
            assert np.array_equal(allowed[name, step], trie.next_node[walk(trie, real[:step])] >= 0)
            assert allowed[name, step, real[step]]
        assert allowed[name, len(real) :, END].all()
        assert allowed[name, len(real) :, 1:].sum() == 0
    # 'cat' may end or go on to 'cats'.
    assert allowed[0, 3].sum() == 2


def test_composed_and_decomposed_characters_are_one_name():
    assert build_trie(["caf\u0065\u0301", "bar"]).index("café") == 0
    with pytest.raises(ValueError, match="distinct"):
        build_trie(["café", "cafe\u0301"])


@pytest.mark.parametrize("names", [[], ["a", ""], ["a", "a"]])
def test_bad_vocabularies_are_refused(names):
    with pytest.raises(ValueError, match="a vocabulary needs"):
        build_trie(names)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(KeyError, match="'dog' is not among the names cat, chair"):
        build_trie(["cat", "chair"]).index("dog")
