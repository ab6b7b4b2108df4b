# Verdicts from the tables of the wings, then the page.


rule verdict:
    input:
        **({"decoding": S("decoding/scores.tsv")} if STUDY.decoding else {}),
        **(
            {name: S(f"alignment/{name}.tsv") for name in ("scores", "ceilings", "inference")}
            if STUDY.alignment
            else {}
        ),
    output:
        verdicts=report(S("verdicts.tsv"), category="Verdicts", caption="../report/verdicts.rst"),
    log:
        S("logs/verdict.log"),
    params:
        settings=settings("verdict"),
        source=source("verdict"),
        io=io,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "{CORTICODE} verdict {params.io} --settings {params.settings:q} --log {log:q}"


def page_inputs():
    """Everything that the page shows, by name; absent blocks have no inputs."""
    inputs = {"manifest": S("manifest.tsv"), "verdicts": S("verdicts.tsv")}
    if STUDY.preprocess:
        inputs |= {"quality": S("preprocessed/quality.tsv"), "series": S("preprocessed/quality.h5")}
    if ENCODING or VOXELS:
        inputs |= {"words": S("stimuli/words.tsv")}
    if STUDY.learning:
        inputs |= {"networks": S("networks/networks.tsv")}
        inputs |= {part: [S(f"networks/{n}/{file}") for n in NETWORKS] for part, file in _NETWORK_FILES.items()}
    if STUDY.alignment:
        inputs |= {part: S(f"stimuli/{file}") for part, file in _PICTURE_FILES.items()}
        inputs |= {part: S(f"alignment/{file}") for part, file in _ALIGNMENT_FILES.items()}
    if STUDY.decoding:
        inputs |= {"decoding_scores": S("decoding/scores.tsv")}
        inputs |= {part: S(f"decoding/{part}.tsv") for part in ("text", "recovery")}
    if NAMES:
        inputs["names_arrays"] = lambda w: [S(f"decoding/sub-{s}_names.h5") for s in subjects(NAMES.task)]
    if ENCODING:
        inputs["encode_arrays"] = S("decoding/encode.h5")
    if VOXELS:
        inputs["voxels_arrays"] = lambda w: [S(f"decoding/sub-{s}_voxels.h5") for s in subjects(VOXELS.task)]
        inputs["maps"] = lambda w: [
            S(f"decoding/sub-{s}_map-{name}_statmap.nii.gz") for s in subjects(VOXELS.task) for name in MAPS
        ]
    return inputs


_NETWORK_FILES = {"card": "card.json", "curves": "curves.tsv"}
_PICTURE_FILES = {"pictures": "pictures.h5", "labels": "pictures.tsv", "controls": "control_rdms.h5"}
_ALIGNMENT_FILES = {
    "rdms": "rdms.h5",
    "alignment_scores": "scores.tsv",
    "ceilings": "ceilings.tsv",
    "inference": "inference.tsv",
    "models": "model_rdms.h5",
}


rule page:
    input:
        **page_inputs(),
    output:
        page=report(S("report/index.html"), category="Report", caption="../report/page.rst"),
        provenance=S("provenance.json"),
    log:
        S("logs/report.log"),
    params:
        settings=settings("report"),
        source=source("report"),
        io=io,
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "{CORTICODE} report {params.io} --settings {params.settings:q} --log {log:q}"
