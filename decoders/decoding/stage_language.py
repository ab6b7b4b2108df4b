"""The stage ``language``: the character language model of the study, on a corpus without the test stories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from decoders.decoding.content import passages_of
from decoders.decoding.language import CharacterModel, Language
from decoders.decoding.language_fit import LanguageOptions, fit_language
from decoders.decoding.learnt_vectors import learnt_embedding
from decoders.decoding.lexicon import corpus_words
from decoders.decoding.splits_free_text import language_corpus
from decoders.decoding.splits_voxels import LEARNT
from decoders.decoding.symbols import Alphabet, plain_text, spelled
from decoders.stage import Job
from decoders.stats.declared import Corpus, read_audited
from decoders.stimuli.timings import Words, words_by_stimulus
from decoders.stimuli.training_text import training_documents
from decoders.store.tables import read_table, write_table
from decoders.store.weights import read_weights, write_weights


def run(job: Job) -> None:
    """Write the model with its alphabet, its curves and the words that may be written."""
    settings = job.settings.decoding.free_text
    corpus = language_corpus(read_audited(job.input("splits"), job.input("leaks")))
    words = words_by_stimulus(read_table(job.input("words"), text_columns=("stimulus", "word", "text")))
    documents = corpus_documents(corpus, words, job.settings.data.mirror)
    plain = "".join(documents)
    options = LanguageOptions(epochs=settings.epochs)
    weights = job.outputs["weights"]
    checkpoint = weights.with_name(f".{weights.name}.checkpoint")
    fit = fit_language(plain, options, job.torch_seed("language"), checkpoint, job.log)
    lexicon = corpus_words(plain, fit.language.alphabet, max_words=settings.max_words)
    job.log.info(
        "%d characters, %d words may be written; best epoch %d: %.3f bits/character on the end of the corpus",
        len(plain), len(lexicon), fit.best_epoch + 1, fit.validation_bits[fit.best_epoch],
    )  # fmt: skip
    about = {
        "characters": fit.language.alphabet.characters,
        "options": asdict(options),
        "train_bits": fit.train_bits,
        "validation_bits": fit.validation_bits,
        "lexicon": lexicon,
        "n_characters": len(plain),
        "stimuli": list(corpus.stimuli),
        "sources": list(corpus.sources),
    }
    write_weights(weights, fit.language.model.state_dict(), about)
    features = job.settings.decoding.voxels.features
    if features in LEARNT:
        write_table(job.outputs["vectors"], learnt_embedding(features, documents, fit.language).table())
    checkpoint.unlink(missing_ok=True)


def corpus_text(corpus: Corpus, words: Mapping[str, Words], mirror: str | Path | None) -> str:
    """Return a corpus as one plain text (`corpus_documents`)."""
    return "".join(corpus_documents(corpus, words, mirror))


def corpus_documents(corpus: Corpus, words: Mapping[str, Words], mirror: str | Path | None) -> list[str]:
    """Return a corpus as plain texts: other texts first, then the stories of the study.

    The end of it chooses the epoch, and should be like what is decoded.
    """
    documents = [document for source in corpus.sources for document in training_documents(source, mirror)]
    if corpus.unheard:
        passages = passages_of(documents, words, f"the sources of {corpus.setting}")
        texts = ["".join(map(spelled, passage)) for passage in passages]
    else:
        texts = list(map(plain_text, documents))
    return texts + ["".join(map(spelled, words[name].word)) for name in corpus.stimuli]


def read_language(path: Path) -> tuple[Language, list[str]]:
    """Return the trained model, and the words that may be written."""
    weights, about = read_weights(path)
    options = LanguageOptions(**about["options"])
    alphabet = Alphabet(about["characters"])
    model = CharacterModel(
        alphabet.n_symbols, options.n_units, options.n_layers, options.n_heads, options.window, options.dropout
    )
    model.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    return Language(model.eval(), alphabet), list(about["lexicon"])
