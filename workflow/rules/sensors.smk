# MEG and EEG: RDMs in time and what is compared with them, fusion with fMRI, and decoding of heard text.


rule rdms_time:
    input:
        manifest=S("manifest.tsv"),
        estimates=trials,
    output:
        rdms=S("alignment/time_rdms.h5"),
    log:
        S("logs/rdms_time.log"),
    params:
        settings=settings("rdms-time"),
        source=source("rdms-time"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=120,
    shell:
        "corticode rdms-time {params.io} --settings {params.settings:q} --log {log:q}"


rule align_time:
    input:
        rdms=S("alignment/time_rdms.h5"),
        **compared(),
    output:
        scores=S("alignment/time_scores.tsv"),
        ceilings=S("alignment/time_ceilings.tsv"),
        inference=report(
            S("alignment/time_inference.tsv"), category="Alignment in time", caption="../report/scores.rst"
        ),
        clusters=report(
            S("alignment/time_clusters.tsv"), category="Alignment in time", caption="../report/clusters.rst"
        ),
        latencies=report(
            S("alignment/latencies.tsv"), category="Alignment in time", caption="../report/latencies.rst"
        ),
        generalisation=S("alignment/time_generalisation.h5"),
    log:
        S("logs/align_time.log"),
    params:
        settings=settings("align-time"),
        source=source("align-time"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode align-time {params.io} --settings {params.settings:q} --log {log:q}"


rule sensor_searchlight:
    input:
        manifest=S("manifest.tsv"),
        estimates=trials,
        **compared(),
    output:
        searchlight=S("alignment/sensor_searchlight.h5"),
    log:
        S("logs/sensor_searchlight.log"),
    params:
        settings=settings("sensor-searchlight"),
        source=source("sensor-searchlight"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode sensor-searchlight {params.io} --settings {params.settings:q} --log {log:q}"


rule fusion:
    input:
        rdms=S("alignment/rdms.h5"),
        time_rdms=S("alignment/time_rdms.h5"),
        **compared(),
    output:
        fusion=report(S("alignment/fusion.tsv"), category="Fusion", caption="../report/fusion.rst"),
        arrays=S("alignment/fusion.h5"),
        clusters=report(S("alignment/fusion_clusters.tsv"), category="Fusion", caption="../report/clusters.rst"),
        latencies=report(S("alignment/fusion_latencies.tsv"), category="Fusion", caption="../report/latencies.rst"),
    log:
        S("logs/fusion.log"),
    params:
        settings=settings("fusion"),
        source=source("fusion"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode fusion {params.io} --settings {params.settings:q} --log {log:q}"


rule meg:
    input:
        **audited("meg"),
        manifest=S("manifest.tsv"),
        words=S("stimuli/words.tsv"),
        recording=lambda wildcards: with_neighbour(SENSED.task, wildcards.subject, sensors=True),
        **corpus_files("meg"),
    output:
        scores=S("decoding/sub-{subject}_meg-scores.tsv"),
        nulls=S("decoding/sub-{subject}_meg-nulls.h5"),
        text=S("decoding/sub-{subject}_meg-text.tsv"),
        arrays=S("decoding/sub-{subject}_meg.h5"),
    log:
        S("logs/meg_sub-{subject}.log"),
    params:
        settings=settings("meg"),
        source=source("meg"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode meg {params.io} --settings {params.settings:q} --log {log:q}"
