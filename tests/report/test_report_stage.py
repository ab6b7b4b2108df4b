import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from decoders.errors import IntegrityError
from decoders.report.stage import run

SECTIONS = ["verdicts", "decoding", "voxels", "alignment", "learning", "quality", "provenance"]


class Page(HTMLParser):
    """Elements, their attributes, and the text of the scripts that run."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.styles, self.inside = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        kind = dict(attributes).get("type", "text/javascript")
        self.inside = tag if tag in ("style",) or (tag == "script" and kind == "text/javascript") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        if self.inside == "style":
            self.styles.append(data)


def render(study, tools, inputs=None, **settings):
    job = tools.job_of(study, tools.settings(**settings), inputs)
    run(job)
    return job.outputs["page"].read_text(encoding="utf-8"), json.loads(job.outputs["provenance"].read_text())


@pytest.fixture(scope="module")
def text(study, tools):
    return render(study, tools)[0]


def test_every_section_is_there_in_order(text):
    assert re.findall(r'<section id="(\w+)"', text) == SECTIONS


def test_equal_inputs_give_equal_bytes(study, tools, text):
    assert render(study, tools)[0] == text


def test_the_page_is_small_and_refers_to_nothing_outside(text):
    assert len(text.encode()) < 5e6
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:60])
    assert "@import" not in text
    assert "url(" not in text


def test_the_policy_lets_only_our_own_style_and_script_run(text):
    page = Page(text)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for found, rule in ((page.scripts, "script-src"), (page.styles, "style-src")):
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in page.tags)


def test_hostile_words_stay_words(hostile, tools, text):
    found, _ = render(hostile, tools, title=hostile.hostile)
    clean, dirty = Page(text), Page(found)
    # Not one element or handler more than in the harmless page, besides options that quote names.
    assert sum(t == "img" for t, _ in dirty.tags) == sum(t == "img" for t, _ in clean.tags)
    assert sum(t == "script" for t, _ in dirty.tags) == sum(t == "script" for t, _ in clean.tags)
    assert not any(name.startswith("on") for _, attributes in dirty.tags for name in attributes)
    assert len(dirty.scripts) == 1
    assert "<script>document" not in found
    assert "{{7*7}}" in found
    assert "&lt;/script&gt;" in found


def test_a_page_that_does_not_escape_is_noticed(hostile, tools, monkeypatch, text):
    """The deliberate bug: templates without autoescape. The counts of the test above then differ."""
    from decoders.report import page as module

    environment = module._environment()
    monkeypatch.setattr(environment, "autoescape", False)
    environment.cache.clear()
    found, _ = render(hostile, tools, title=hostile.hostile)
    environment.cache.clear()
    assert sum(t == "script" for t, _ in Page(found).tags) > sum(t == "script" for t, _ in Page(text).tags)


def test_a_study_of_controls_alone_shows_them_as_bars(study, tools):
    from decoders.report.read import read_results
    from decoders.report.sections import alignment

    inputs = {name: study.inputs[name] for name in ("inference", "alignment_scores", "ceilings")}
    results = read_results(tools.job_of(study, tools.settings()).settings, inputs)
    table = results.tables["inference"]
    results.tables["inference"] = table[table["model"].str.startswith("control:") & (table["reference"] == "chance")]
    figure = next(
        block for part in alignment.section(results).parts for block in part.blocks if block.template == "figure"
    )
    assert figure.drawings[0][1].count('class="bar ') == 12


def test_each_verdict_is_words_and_a_symbol(text):
    badges = re.findall(r'<span class="verdict (\w+)"><svg[^>]*>(.*?)</svg>(.*?)</span>', text)
    assert {kind for kind, _, _ in badges} == {"above", "control", "chance", "unranked", "ranking"}
    assert len({symbol for _, symbol, _ in badges}) == 5
    assert ("control", "above chance but explained by word rate") in {(kind, words) for kind, _, words in badges}


def test_no_share_of_a_ceiling_near_zero(text):
    rows = re.findall(r'<tr data-row="\d+">.*?</tr>', text, re.S)
    near_zero = next(row for row in rows if "Untrained, conv1" in row and "verdict" in row)
    high = next(row for row in rows if "Alignment, IT: Backpropagation" in row)
    assert "\N{THIN SPACE}%" not in near_zero
    assert "24\N{THIN SPACE}%" in high


def test_excluded_recordings_are_named_at_the_top(text):
    top = text[: text.index('<section id="decoding"')]
    assert "sub-33_task-pictures_run-01 (subject 33): all 6 regions are constant" in top


def test_an_unsupported_network_is_shown(text):
    assert "unsupported: no feedback path" in text


@pytest.mark.parametrize(
    ("kept", "sections"),
    [
        (("manifest",), ["verdicts", "quality", "provenance"]),
        (("manifest", "quality", "series"), ["verdicts", "quality", "provenance"]),
        (("manifest", "verdicts", "decoding_scores", "text"), ["verdicts", "decoding", "quality", "provenance"]),
        (("verdicts", "inference", "alignment_scores", "ceilings", "models", "rdms"), ["verdicts", "alignment", "provenance"]),
        (("networks", "card", "curves"), ["learning", "provenance"]),
        ((), ["provenance"]),
    ],
)  # fmt: skip
def test_sections_appear_only_with_their_data(study, tools, kept, sections):
    inputs = {name: study.inputs[name] for name in kept if name in study.inputs}
    found, _ = render(study, tools, inputs)
    assert re.findall(r'<section id="(\w+)"', found) == sections


@pytest.mark.parametrize("absent", ["decoding", "learning", "alignment", "decoding learning alignment"])
def test_a_study_without_a_block_of_settings_has_a_page(study, tools, absent):
    settings = tools.settings().model_copy(update=dict.fromkeys(absent.split()))
    job = tools.job_of(study, settings, {name: study.inputs[name] for name in ("manifest", "quality", "series")})
    run(job)
    found = re.findall(r'<section id="(\w+)"', job.outputs["page"].read_text(encoding="utf-8"))
    assert found == ["verdicts", "quality", "provenance"]


def test_pictures_are_shown_only_where_the_study_allows(study, tools, text):
    assert text.count('class="thumb"') == 8
    assert 'class="thumb"' not in render(study, tools, thumbnails=False)[0]


def test_provenance_follows_the_inputs_back(study, tools):
    _, record = render(study, tools)
    assert record["study"] == "demo"
    assert {"manifest", "train", "align", "verdict", "quality"} <= {stage["stage"] for stage in record["stages"]}
    assert [item["path"].rsplit("/", 1)[1] for item in record["raw_inputs"]] == ["participants.tsv"]
    assert record["settings"]["preprocess"]["high_pass_s"] == 100.0
    train = [stage for stage in record["stages"] if stage["stage"] == "train" and stage["labels"]]
    assert len(train) == 15


def test_a_changed_table_is_refused(study, tools, tmp_path):
    source = study.inputs["verdicts"][0]
    changed = tmp_path / "verdicts.tsv"
    changed.write_text(source.read_text().replace("not above chance", "above all controls"))
    (tmp_path / "verdicts.tsv.sha256").write_text(source.with_name(source.name + ".sha256").read_text())
    with pytest.raises(IntegrityError, match="SHA-256"):
        render(study, tools, {"verdicts": [changed]})


def test_a_page_beyond_the_limit_is_refused(study, tools, monkeypatch):
    from decoders.errors import InputError

    monkeypatch.setattr("decoders.report.stage.MOST_BYTES", 1000)
    with pytest.raises(InputError, match="MiB"):
        render(study, tools, {"manifest": study.inputs["manifest"]})


def test_matched_features_are_called_an_upper_bound_where_they_were_used(study, tools, tmp_path):
    from decoders.store.arrays import read_arrays, write_arrays

    assert "Matched features" not in render(study, tools)[0]
    kept = read_arrays(study.inputs["voxels_arrays"][0])
    path = tmp_path / "sub-01_voxels.h5"
    write_arrays(path, dict(kept.arrays), {**kept.attributes, "features": "phantom"})
    page = render(study, tools, {**study.inputs, "voxels_arrays": [path]})[0]
    # Beside the verdicts and beside the maps.
    assert page.count("Matched features: an upper bound") == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [("alice_fmri_brennan2016", "CC BY 4.0"), ("bold_haxby2001_pymvpa", "CC BY-SA 3.0"), ("rsa92_fmri_cichy2014", "not for display")],
)  # fmt: skip
def test_the_foot_of_the_page_names_licence_and_citation(tools, name, words):
    from decoders.report.sections.about import attribution

    settings = tools.settings()
    data = settings.data.model_copy(update={"source": "registry", "name": name})
    training = settings.learning.training.model_copy(update={"dataset": "mnist"})
    learning = settings.learning.model_copy(update={"training": training})
    sources = attribution(settings.model_copy(update={"data": data, "learning": learning}))
    assert words in sources[0]
    assert "Cite: " in sources[0]
    assert "MNIST" in sources[1]
    assert attribution(settings) == []


def test_leaks_that_a_study_allows_stand_on_the_page_with_their_reason(study, tools, text):
    part = text[text.index("Leaks between training and test data that this study allows") :]
    assert "encoding models, time between them within a run: 10 s lie between" in part
    assert "one run is all there is" in part
    row = next(row for row in re.findall(r"<tr data-row.*?</tr>", part, re.S) if "told in training" in row)
    assert "0.1% to 0.4%" in row
    without = {name: paths for name, paths in study.inputs.items() if name != "leaks"}
    assert "Training apart from test data" not in render(study, tools, without)[0]
