# Alignment: recorded RDMs, then every network, control and model against them.


rule rdms:
    input:
        manifest=S("manifest.tsv"),
        estimates=estimates,
        **told(),
    output:
        rdms=S("alignment/rdms.h5"),
    log:
        S("logs/rdms.log"),
    params:
        settings=settings("rdms"),
        source=source("rdms"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=60,
    shell:
        "corticode rdms {params.io} --settings {params.settings:q} --log {log:q}"


rule align_encoding:
    input:
        manifest=S("manifest.tsv"),
        estimates=estimates,
        rdms=S("alignment/rdms.h5"),
        pictures=S("stimuli/pictures.h5"),
        labels=S("stimuli/pictures.tsv"),
        features=networks("features"),
        card=networks("card"),
        user=[model.path for model in STUDY.alignment.models] if STUDY.alignment else [],
    output:
        encoding=report(S("alignment/encoding.tsv"), category="Alignment", caption="../report/scores.rst"),
        encoding_scores=S("alignment/encoding_scores.tsv"),
    log:
        S("logs/align_encoding.log"),
    params:
        settings=settings("align-encoding"),
        source=source("align-encoding"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=600,
    shell:
        "corticode align-encoding {params.io} --settings {params.settings:q} --log {log:q}"


rule align:
    input:
        rdms=S("alignment/rdms.h5"),
        time_rdms=S("alignment/time_rdms.h5") if FUSED else [],
        **compared(),
    output:
        scores=S("alignment/scores.tsv"),
        ceilings=S("alignment/ceilings.tsv"),
        inference=report(S("alignment/inference.tsv"), category="Alignment", caption="../report/scores.rst"),
        models=S("alignment/model_rdms.h5"),
        geometry=S("alignment/geometry.tsv"),
    log:
        S("logs/align.log"),
    params:
        settings=settings("align"),
        source=source("align"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode align {params.io} --settings {params.settings:q} --log {log:q}"


rule searchlight_models:
    input:
        rdms=S("alignment/rdms.h5"),
        time_rdms=S("alignment/time_rdms.h5") if FUSED else [],
        **compared(),
    output:
        models=S("alignment/searchlight/models.h5"),
    log:
        S("logs/searchlight_models.log"),
    params:
        settings=settings("searchlight-models"),
        source=source("searchlight-models"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=60,
    shell:
        "corticode searchlight-models {params.io} --settings {params.settings:q} --log {log:q}"


# Each chunk is a file of its own: what a killed study has finished is not computed again.
rule searchlight:
    input:
        estimates=lambda w: recordings(STUDY.alignment.task, w.subject, "estimates"),
        models=S("alignment/searchlight/models.h5"),
    output:
        scores=S("alignment/searchlight/sub-{subject}_chunk-{chunk}.h5"),
    log:
        S("logs/searchlight_sub-{subject}_chunk-{chunk}.log"),
    params:
        settings=settings("searchlight"),
        source=source("searchlight"),
        io=io,
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "corticode searchlight {params.io} --settings {params.settings:q} --log {log:q}"


rule searchlight_maps:
    input:
        manifest=S("manifest.tsv"),
        models=S("alignment/searchlight/models.h5"),
        scores=searchlight_chunks,
    output:
        maps=directory(S("alignment/searchlight_maps")),
        arrays=S("alignment/searchlight.h5"),
        table=report(S("alignment/searchlight.tsv"), category="Alignment", caption="../report/searchlight.rst"),
    log:
        S("logs/searchlight_maps.log"),
    params:
        settings=settings("searchlight-maps"),
        source=source("searchlight-maps"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode searchlight-maps {params.io} --settings {params.settings:q} --log {log:q}"
