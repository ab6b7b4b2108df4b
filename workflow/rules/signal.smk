# Preprocessing: one Recording per run, trial estimates where the study wants them, and quality.
# Quality is a checkpoint: only then is it known which subjects have runs that can be decoded.


rule preprocess:
    input:
        manifest=ancient(S("manifest.tsv")),
    output:
        recording=S("preprocessed/{run}_recording.h5"),
    log:
        S("logs/preprocess_{run}.log"),
    params:
        settings=settings("preprocess"),
        source=source("preprocess"),
        row=row,
        io=io,
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "corticode preprocess {params.io} --settings {params.settings:q} --log {log:q}"


rule estimate:
    input:
        manifest=ancient(S("manifest.tsv")),
        recording=S("preprocessed/{run}_recording.h5"),
    output:
        estimates=S("preprocessed/{run}_estimates.h5"),
    log:
        S("logs/estimate_{run}.log"),
    params:
        settings=settings("estimate"),
        source=source("estimate"),
        row=row,
        io=io,
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "corticode estimate {params.io} --settings {params.settings:q} --log {log:q}"


checkpoint quality:
    input:
        manifest=S("manifest.tsv"),
        recording=lambda wildcards: recordings(sensors=None),
        estimates=lambda wildcards: trials(wildcards) if TIMED else [],
    output:
        quality=S("preprocessed/quality.tsv"),
        series=S("preprocessed/quality.h5"),
    log:
        S("logs/quality.log"),
    params:
        settings=settings("quality"),
        source=source("quality"),
        io=io,
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "corticode quality {params.io} --settings {params.settings:q} --log {log:q}"
