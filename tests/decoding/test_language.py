"""The character language model: steps, causality, learning; each check fails for a named, deliberate bug."""

import math

import numpy as np
import pytest
import torch

from decoders.decoding.language import (
    CharacterModel,
    Language,
    WindowAttention,
    load_language,
    save_language,
    score_symbols,
    symbol_states,
)
from decoders.decoding.language_fit import LanguageOptions, fit_language
from decoders.decoding.symbols import alphabet_of, is_ideograph, plain_text, spelled, words_of
from decoders.errors import CorticodeError, InputError

torch.set_num_threads(1)
SMALL = LanguageOptions(n_units=16, n_layers=2, n_heads=2, window=4, length=16, batch_size=8, epochs=3, dropout=0.1)


def small_model(n_symbols=7, **changes):
    torch.manual_seed(3)
    model = CharacterModel(n_symbols, **{"n_units": 8, "n_layers": 2, "n_heads": 2, "window": 5} | changes)
    for parameter in model.parameters():  # the biases of layer norm are zero at first
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.double().eval()


def texts(n=6, length=17, n_symbols=7, seed=0):
    return torch.randint(n_symbols, (n, length), generator=torch.Generator().manual_seed(seed))


# ---- steps with a cache equal the full pass -------------------------------------------------------------------------


def stepped(model, symbols, parents):
    """Read the rows of `symbols` by steps; after 8 characters the texts are exchanged as a beam would."""
    cache, found = model.start(len(symbols)), []
    for t in range(symbols.shape[1]):
        found.append(model.step(symbols[:, t], cache))
        if t == 8:
            cache, found = cache.select(parents), [row[parents] for row in found]
            symbols = torch.cat([symbols[parents, :9], symbols[:, 9:]], 1)
    return symbols, torch.stack(found, 1)


def check_steps(model):
    read, found = stepped(model, texts(), torch.tensor([2, 2, 0, 5, 1, 1]))
    with torch.no_grad():
        torch.testing.assert_close(found, CharacterModel.forward(model, read), atol=1e-10, rtol=0)


def test_cached_steps_equal_the_full_pass():
    check_steps(small_model())


def test_cached_steps_fail_where_the_ring_forgets_its_age(monkeypatch):
    """Mutation: slots count as distances, so the ring is read in the order of its slots."""

    def step(self, x, keys, values, position):
        return original(self, x, keys, values, position.clamp(max=self.window - 1))

    original = WindowAttention.step
    monkeypatch.setattr(WindowAttention, "step", step)
    with pytest.raises(AssertionError):
        check_steps(small_model())


def test_rows_of_different_length_share_a_batch():
    model, symbols = small_model(), texts(2, 9)
    cache = model.start(2)
    for t in range(4):
        model.step(symbols[:, t], cache)
    longer = cache.select(torch.tensor([1]))
    model.step(symbols[1:, 4], longer)
    both = cache.select(torch.tensor([0])).append(longer)
    found = model.step(torch.stack([symbols[0, 4], symbols[1, 5]]), both)
    with torch.no_grad():
        torch.testing.assert_close(found[0], model(symbols[:1, :5])[0, -1], atol=1e-10, rtol=0)
        torch.testing.assert_close(found[1], model(symbols[1:, :6])[0, -1], atol=1e-10, rtol=0)


# ---- causality ------------------------------------------------------------------------------------------------------


def influence(model, length=12):
    """Return |d prediction at t / d input at s|, shape (t, s)."""
    x = torch.randn(1, length, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    y = x
    for layer in model.layers:
        y = layer(y)
    rows = [torch.autograd.grad(y[0, t].square().sum(), x, retain_graph=True)[0][0].abs().sum(1) for t in range(length)]
    return torch.stack(rows)


def check_causal(model):
    found = influence(model)
    steps = torch.arange(len(found))
    distance = steps[:, None] - steps[None, :]
    assert found[distance < 0].max() == 0, "the future reaches the present"
    assert found[distance >= model.reach].max() == 0, "what lies beyond the window reaches the present"
    assert found[(distance >= 0) & (distance < model.reach)].min() > 0


def test_a_prediction_depends_on_its_window_and_on_nothing_else():
    check_causal(small_model())


def test_causality_fails_for_attention_without_a_mask(monkeypatch):
    """Mutation: all characters are seen, as in an encoder."""

    def forward(self, x):
        q, k, v = self._parts(x)
        mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))

    monkeypatch.setattr(WindowAttention, "forward", forward)
    with pytest.raises(AssertionError):
        check_causal(small_model())


def test_scores_in_pieces_equal_one_pass(monkeypatch):
    model, symbols = small_model(), texts(1, 60)[0]
    with torch.no_grad():
        whole = model(symbols[None, :-1])[0].gather(1, symbols[1:, None])[:, 0].numpy()
    monkeypatch.setattr("decoders.decoding.language._EVALUATED", 7)
    assert np.allclose(score_symbols(model, symbols), whole, atol=1e-10)


def test_states_in_pieces_equal_one_pass(monkeypatch):
    model, symbols = small_model(), texts(1, 40)[0]
    whole = model.states(symbols[None])[0].detach().numpy()
    monkeypatch.setattr("decoders.decoding.language._EVALUATED", 7)
    np.testing.assert_allclose(symbol_states(model, symbols), whole, atol=1e-12)


# ---- learning -------------------------------------------------------------------------------------------------------

LETTERS = "abcdef"


def three_gram(n, seed=0):
    """Draw text where two characters determine the distribution of the next; return its entropy too."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(6, 0.3), size=(6, 6))
    codes = [0, 1]
    draws = rng.random(n)
    cumulative = table.cumsum(-1)
    for draw in draws:
        codes.append(min(5, int(np.searchsorted(cumulative[codes[-2], codes[-1]], draw))))
    chosen = table[codes[:-2], codes[1:-1], codes[2:]]
    return "".join(LETTERS[code] for code in codes), -np.log2(chosen)


def trained_bits(text, surprise, **changes):
    options = LanguageOptions(
        n_units=32, n_layers=2, n_heads=2, window=4, length=64, batch_size=32, epochs=6, lr=1e-2, dropout=0.0
    )
    options = LanguageOptions(**vars(options) | changes)
    fit = fit_language(text, options, seed=0)
    return fit.validation_bits[fit.best_epoch], float(surprise[-math.ceil(0.1 * len(text)) :].mean())


def test_a_planted_three_gram_is_learned_to_its_entropy():
    found, entropy = trained_bits(*three_gram(40_000))
    assert entropy * 0.99 < found < entropy * 1.04


def test_a_window_of_one_character_cannot_learn_it():
    """Mutation: the model does not see the character before the last."""
    found, entropy = trained_bits(*three_gram(40_000), window=1)
    assert found > entropy * 1.1


def test_equal_seeds_give_equal_bits_and_a_resumed_training_too(tmp_path):
    text = three_gram(2000)[0]
    whole = fit_language(text, SMALL, seed=1)
    state = whole.language.model.state_dict()
    for changes, checkpoint in (({}, None), ({"epochs": 3}, tmp_path / "c.safetensors")):
        again = fit_language(text, LanguageOptions(**vars(SMALL) | changes), seed=1, checkpoint=checkpoint)
        assert all(torch.equal(value, state[name]) for name, value in again.language.model.state_dict().items())
    other = fit_language(text, SMALL, seed=2).language.model.state_dict()
    assert not all(torch.equal(value, state[name]) for name, value in other.items())


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    text, path = three_gram(2000)[0], tmp_path / "c.safetensors"
    whole = fit_language(text, SMALL, seed=1)
    from decoders.decoding import language_fit

    epoch = language_fit._Training.epoch

    def killed(self, n):
        if n == 1:
            raise KeyboardInterrupt
        epoch(self, n)

    monkeypatch.setattr(language_fit._Training, "epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_language(text, SMALL, seed=1, checkpoint=path)
    done = []
    monkeypatch.setattr(language_fit._Training, "epoch", lambda self, n: (done.append(n), epoch(self, n)))
    again = fit_language(text, SMALL, seed=1, checkpoint=path)
    assert done == [1, 2]
    assert again.validation_bits == whole.validation_bits
    state = whole.language.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.language.model.state_dict().items())
    # A checkpoint of another training is not used.
    done.clear()
    fit_language(text, SMALL, seed=2, checkpoint=path)
    assert done == [0, 1, 2]


def test_the_best_epoch_is_kept(monkeypatch):
    from decoders.decoding import language_fit

    scores = iter([3.0, 2.0, 2.5])
    states = []

    def scored(model, symbols):
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        return np.array([-next(scores)])

    monkeypatch.setattr(language_fit, "score_symbols", scored)
    fit = fit_language(three_gram(2000)[0], SMALL, seed=1)
    assert fit.best_epoch == 1
    kept = fit.language.model.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in kept.items())
    assert not all(torch.equal(value, states[2][name]) for name, value in kept.items())


def test_validation_text_is_the_end_and_is_not_trained_on():
    text = three_gram(2000)[0]
    changed = text[:-100] + "z" * 100
    fits = [fit_language(corpus, SMALL, seed=1) for corpus in (text, changed)]
    assert fits[0].train_bits == fits[1].train_bits
    assert fits[0].validation_bits != fits[1].validation_bits
    assert "z" not in fits[1].language.alphabet.characters


# ---- files, scripts and errors --------------------------------------------------------------------------------------


def test_a_model_is_read_as_it_was_written(tmp_path):
    language = fit_language(three_gram(500)[0], SMALL, seed=0).language
    save_language(tmp_path / "l.safetensors", language)
    again = load_language(tmp_path / "l.safetensors")
    assert again.alphabet == language.alphabet
    assert again.bits_per_character("abcabc") == language.bits_per_character("abcabc")
    from decoders.store.weights import write_weights

    write_weights(tmp_path / "other.safetensors", {"w": torch.zeros(1)}, {"rule": "x"})
    with pytest.raises(InputError, match="a character language model"):
        load_language(tmp_path / "other.safetensors")


def test_plain_text_of_any_script():
    assert plain_text("Don't stop, Ada!") == "don't stop ada "
    assert plain_text("你好，世界。OK?") == "你好世界ok "
    assert words_of("don't stop 你好 ok a") == ["don't", "stop", "你", "好", "ok"]
    assert spelled("猫") == "猫"
    assert spelled("cat") == "cat "
    assert is_ideograph("の")
    alphabet = alphabet_of("猫と猫と cat cat")
    assert alphabet.decode(alphabet.encode("猫 cat")) == "猫 cat"
    assert alphabet.encode("x")[0] == 0
    assert alphabet.missing("dog cat") == "dgo"


def test_errors_say_what_to_do(monkeypatch):
    with pytest.raises(InputError, match="Give a longer text"):
        fit_language("abab", SMALL, seed=0)
    with pytest.raises(InputError, match="Give a longer text"):
        fit_language("", SMALL, seed=0)
    with pytest.raises(InputError, match="whose characters recur"):
        alphabet_of("ab")
    with pytest.raises(InputError, match="at least two characters"):
        Language(small_model(), alphabet_of("aabb")).bits_per_character("a")
    with pytest.raises(CorticodeError, match="Lower the learning rate"):
        fit_language(three_gram(500)[0], LanguageOptions(**vars(SMALL) | {"lr": float("nan")}), seed=0)
