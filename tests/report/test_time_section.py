"""Alignment in time, fusion and sensors on the page: what is drawn is what the tables and arrays hold."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from made_up_meg_results import SUBJECTS, TIMES, MegResults, model_names

from decoders.report.page import MOST_BYTES
from decoders.report.read import Named, Results, read_results
from decoders.report.sections import fusion, time, time_curves
from decoders.report.sections.decoding import by_modality
from decoders.report.sections.sensors import above_cut, gate_maps, gate_table, rank_curve
from decoders.report.sections.time_curves import clusters_of, curve_figure, curves_of, raster_figure
from decoders.report.sections.time_maps import generalisation_figure, rdm_strip, sensor_figure, sensor_notice
from decoders.report.stage import run
from decoders.report.words import analysis, parse_analysis
from decoders.store.arrays import Array, Arrays


@pytest.fixture(scope="module")
def meg(tools, tmp_path_factory):
    study = tools.Study(tmp_path_factory.mktemp("meg"))
    study.manifest()
    return MegResults(study).write()


@pytest.fixture(scope="module")
def results(meg, tools):
    return read_results(tools.job_of(meg, tools.settings()).settings, meg.inputs)


def with_tables(results, **tables):
    return dataclasses.replace(results, tables={**results.tables, **tables})


def render(study, tools, **settings):
    job = tools.job_of(study, tools.settings(**settings))
    run(job)
    return job.outputs["page"].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(meg, tools):
    return render(meg, tools)


def keys(section):
    return [block.key for part in section.parts for block in part.blocks if hasattr(block, "key")]


def test_the_page_holds_all_of_it(page):
    assert re.findall(r'<section id="(\w+)"', page) == [
        "verdicts",
        "decoding",
        "time",
        "fusion",
        "quality",
        "provenance",
    ]
    for key in (
        "time-rdms", "time-curves", "time-raster", "latency-dots", "generalisation", "sensor-searchlight",
        "fusion-regions", "commonality", "sensor-gate", "sensor-power", "sensor-spectra", "artefacts",
    ):  # fmt: skip
        assert f'id="fig-{key}"' in page


def test_curves_are_the_estimates_of_the_tests(results):
    found = curves_of(results)
    assert found.tested
    table = results.tables["time_inference"]
    curve = found.curves[2]
    rows = table[table["model"] == curve.name].sort_values("time")
    assert curve.values.tolist() == rows["estimate"].tolist()
    figure = curve_figure(results, found)
    assert len(figure.data.rows) == len(table)
    # The last layer comes first; then the others.
    assert [label for label, _ in figure.drawings] == ["fc1, 32 px", "conv2, 32 px", "conv1, 32 px"]
    drawing = str(figure.drawings[0][1])
    assert drawing.count('class="span') == sum(
        name.endswith("fc1 32px") or ":" in name for _, name in clusters_of(results)
    )


def test_clusters_that_are_not_significant_are_no_bars(results):
    table = results.tables["time_clusters"]
    weak = with_tables(results, time_clusters=table.assign(p=0.06))
    assert len(clusters_of(results)) > 3
    assert clusters_of(weak) == {}
    assert 'class="span' not in str(curve_figure(weak, curves_of(weak)).drawings[0][1])


def test_a_page_that_does_not_ask_for_significance_is_noticed(results, monkeypatch):
    """The deliberate bug: every cluster counts. What the test above asserts then fails."""
    monkeypatch.setattr(time_curves, "numbers", lambda table, name: np.zeros(len(table)))
    assert clusters_of(with_tables(results, time_clusters=results.tables["time_clusters"].assign(p=0.06)))


def test_without_a_test_over_subjects_the_relabelled_family_counts(results):
    table = results.tables["time_inference"]
    other = table.assign(family="models against relabelled stimuli, over time")
    table = pd.concat([table.assign(p=np.nan, p_corrected=np.nan), other], ignore_index=True)
    clusters = results.tables["time_clusters"]
    clusters = clusters.assign(family=clusters["family"].str.replace("chance", "relabelled stimuli"))
    few = with_tables(results, time_inference=table, time_clusters=clusters)
    assert curves_of(few).tested
    assert clusters_of(few).keys() == clusters_of(results).keys()


def test_a_single_subject_without_tests_is_drawn_and_called_untested(results):
    scores = results.tables["time_scores"]
    one = Results(
        results.settings, {"time_scores": scores[scores["subject"] == "01"]}, {"time_rdms": results.arrays["time_rdms"]}
    )
    found = curves_of(one)
    assert not found.tested
    assert "Not tested" in [getattr(block, "title", "") for part in time.section(one).parts for block in part.blocks]
    figure = curve_figure(one, found)
    assert "nothing is tested" in figure.caption
    first = scores[(scores["subject"] == "01") & (scores["rule"] == "untrained") & (scores["layer"] == "conv1")]
    assert found.curves[0].values == pytest.approx(first.sort_values("time")["score"].to_numpy())


def test_absent_and_empty_tables_give_no_section(results):
    empty = Results(results.settings)
    assert time.section(empty).empty
    assert fusion.section(empty).empty
    none = {name: table.iloc[:0] for name, table in results.tables.items() if name.startswith(("time", "lat", "fus"))}
    blank = Results(results.settings, none)
    assert time.section(blank).empty
    assert fusion.section(blank).empty


def test_the_strip_of_rdms_shows_even_moments_and_the_mean_of_the_subjects(results):
    figure = rdm_strip(results)
    assert figure.data.columns[:4] == ("stimulus_a", "stimulus_b", "0 ms", "100 ms")
    rdms = results.first("time_rdms")["rdms"]
    place = int(np.abs(TIMES - 0.1).argmin())
    assert figure.data.rows[5][3] == pytest.approx(rdms[:, place, 5].mean())
    assert len(figure.hover["boxes"]) == len(figure.data.columns) - 2


def test_time_generalisation_outlines_significant_clusters_alone(results):
    file = results.first("time_generalisation")
    n = len(TIMES)
    labels = np.zeros((n, n), int)
    labels[20:25, 20:25], labels[40:42, 40:42] = 1, 2
    arrays = {**file.arrays, "clusters": Array(labels, ("train_time", "test_time"))}
    drawn = {}
    for name, p in (("one", [0.01, 0.2]), ("none", [0.2, 0.2])):
        content = Arrays({**arrays, "cluster_p": Array(np.array(p), ("cluster",))}, {})
        held = dataclasses.replace(results, arrays={"time_generalisation": [Named(None, content)]})
        drawn[name] = str(generalisation_figure(held).drawings[0][1])
    assert 'class="edge"' in drawn["one"]
    assert drawn["one"].split('class="edge"')[0].rsplit('d="', 1)[1].count("M") == 20
    assert 'class="edge"' not in drawn["none"]


def test_sensor_maps_are_of_even_moments_and_mark_what_is_significant(results):
    figure = sensor_figure(results)
    file = results.first("sensor_searchlight")
    moments = sorted({row[2] for row in figure.data.rows})
    assert moments[:3] == pytest.approx([0.0, 0.1, 0.2])
    name, channel, when, score, p = figure.data.rows[1000]
    m, c = list(file["models"]).index(name), list(file["channels"]).index(channel)
    t = int(np.abs(file["times"] - when).argmin())
    assert (score, p) == (file["scores"][m, c, t], file["p_corrected"][m, c, t])
    drawings = dict(figure.drawings)
    assert 'class="sensor on"' in str(drawings["Direct feedback alignment, fc1, 32 px"])
    assert 'class="sensor on"' not in str(drawings["Untrained, fc1, 32 px"])


def test_what_the_searchlight_over_sensors_left_out_is_said(results):
    assert sensor_notice(results) is None
    file = results.first("sensor_searchlight")
    told = {"excluded": {"07": "no events"}, "not_shared": ["MEG0001"], "no_group": "2 subjects: no test below 5"}
    held = [Named(None, Arrays(file.arrays, told))]
    found = sensor_notice(dataclasses.replace(results, arrays={"sensor_searchlight": held}))
    assert found.items == [
        "subject 07: no events", "1 sensor that not all subjects have: MEG0001", "2 subjects: no test below 5",
    ]  # fmt: skip


def test_fusion_has_regions_shares_and_a_bound(results):
    table = results.tables["fusion_table"].assign(maximum=0.3)
    known = with_tables(results, fusion_table=table)
    section = fusion.section(known)
    assert keys(section) == ["fusion-regions", "commonality", "fusion-tests"]
    drawing = str(section.parts[1].blocks[0].drawings[0][1])
    assert "the region alone: bound" in drawing
    assert "the region alone: bound" not in str(fusion.section(results).parts[1].blocks[0].drawings[0][1])


def test_shares_where_fusion_survives_are_bars(results):
    row = {**results.tables["fusion_table"].iloc[0].to_dict(), "time": np.nan, "analysis": "commonality"}
    rows = [
        {**row, "family": "commonality: models against chance, IT", "region": "IT", "contrast": f"{name} - chance"}
        for name in model_names()
    ]
    table = pd.concat([results.tables["fusion_table"], pd.DataFrame(rows)], ignore_index=True)
    found = fusion.section(with_tables(results, fusion_table=table))
    assert "commonality-window" in keys(found)


def test_stretches_are_runs_of_significant_moments():
    spans = fusion.stretches(np.arange(6) / 10, np.array([True, True, False, False, True, False]), "IT")
    assert [(span.start, span.stop) for span in spans] == [(0.0, 0.1), (0.4, 0.4)]
    assert fusion.stretches(np.arange(3.0), np.zeros(3, bool), "IT") == []


def test_sensors_above_the_cut_are_counted_and_marked(results):
    content = results.arrays["meg_arrays"][0].content
    above = above_cut(content)
    assert 0 < above.sum() < len(above)
    row = gate_table(results).data.rows[0]
    assert row[:3] == ("01", 306, int(above.sum()))
    assert [label for label, _ in gate_maps(results).drawings] == [f"subject {who}" for who in SUBJECTS[:2]]


def decoded(k, score, model="encoder", modality="meg", task="window_3s"):
    return {
        "level": "subject", "subject": "01", "split": "test_runs", "seed": 0, "task": task, "model": model,
        "metric": f"top{k}", "score": score, "ci_low": score - 0.1, "ci_high": score + 0.1, "n": 40, "null_mean": 0.02,
        "p": 0.01, "p_corrected": 0.02, "modality": modality,
    }  # fmt: skip


def test_the_rank_curve_goes_over_k():
    rows = [
        decoded(1, 0.2),
        decoded(10, 0.6),
        decoded(1, 0.02, "control:shifted"),
        decoded(10, 0.25, "control:shifted"),
    ]
    figure = rank_curve(by_modality(pd.DataFrame(rows)))
    assert [label for label, _ in figure.drawings] == ["3-s windows, MEG, subject 01, held-out runs"]
    assert "convolutional encoder" in str(figure.drawings[0][1])
    assert rank_curve(by_modality(pd.DataFrame(rows[:1]))) is None


def test_tasks_of_sensors_are_told_apart_from_those_of_fmri():
    table = by_modality(pd.DataFrame([decoded(1, 0.2), decoded(1, 0.3, modality=None)]))
    assert table["task"].tolist() == ["meg window_3s", "window_3s"]
    assert parse_analysis("meg window_3s: encoder, percentile").modality == "meg"
    assert (
        analysis("meg window_3s: encoder, percentile")
        == "MEG, 3-s windows: convolutional encoder, identification percentile"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("time sensors: backprop cnn3 fc1 32px, 100 to 300 ms", "Alignment in time, sensors: Backpropagation, fc1, 32 px, 100 to 300 ms"),
        ("time sensors: user:mine, -20 to 40 ms", "Alignment in time, sensors: mine, -20 to 40 ms"),
        ("time ranking of rules, sensors", "Alignment in time, ranking of the rules, sensors"),
        ("commonality IT: backprop cnn3 fc1 32px", "Share of the fusion, IT: Backpropagation, fc1, 32 px"),
        ("fusion IT: peak at 120 ms", "Fusion of MEG and fMRI, IT: peak at 120 ms"),
    ],
)  # fmt: skip
def test_names_of_verdicts_have_words(name, words):
    assert analysis(name) == words


class Counted(HTMLParser):
    """Elements by their names, and handlers."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.handlers = {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


def test_hostile_names_stay_words(tools, tmp_path_factory, page):
    words = "</script><script>document.title='owned'</script><img src=x onerror=\"1\">'\"&"
    study = tools.Study(tmp_path_factory.mktemp("hostile-meg"), words)
    study.manifest()
    found = Counted(render(MegResults(study).write(), tools))
    clean = Counted(page)
    assert found.handlers == []
    assert {tag: found.tags.get(tag, 0) for tag in ("script", "img", "svg")} == {
        tag: clean.tags.get(tag, 0) for tag in ("script", "img", "svg")
    }


def test_sixty_rules_and_150_moments_fit_on_the_page(tools, tmp_path_factory):
    study = tools.Study(tmp_path_factory.mktemp("sixty"))
    study.manifest()
    rules = ("untrained", "random_features", "backprop", *(f"rule_{i:02d}" for i in range(57)))
    many = MegResults(study, rules, times=np.linspace(-0.2, 1.0, 150), stimuli=[f"picture-{i:03d}" for i in range(92)])
    many.time_tables()
    many.time_arrays()
    many.sensors()
    many.fusion()
    text = render(study, tools)
    assert len(text.encode()) < 0.8 * MOST_BYTES
    found = curves_of(read_results(tools.job_of(study, tools.settings()).settings, study.inputs))
    charts = time_curves._charts(found.curves)
    # Never more rules in one chart than can be told apart, and every rule in one of them.
    assert max(sum(curve.model.layer != "" for curve in chart) for _, chart in charts) <= 7
    assert {curve.name for _, chart in charts for curve in chart} == {curve.name for curve in found.curves}


def test_the_raster_has_a_row_for_every_model(results):
    figure = raster_figure(results, curves_of(results))
    assert str(figure.drawings[0][1]).count('text-anchor="end"') == 5 + 6
