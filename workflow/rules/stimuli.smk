# Stimuli: text on its time axis, pictures with their control features, and the networks' training pictures.


rule text:
    input:
        manifest=S("manifest.tsv"),
    output:
        words=S("stimuli/words.tsv"),
        characters=S("stimuli/characters.tsv"),
    log:
        S("logs/text.log"),
    params:
        settings=settings("text"),
        source=source("text"),
        io=io,
    resources:
        mem_mb=1000,
        runtime=20,
    shell:
        "corticode text {params.io} --settings {params.settings:q} --log {log:q}"


rule pictures:
    input:
        manifest=S("manifest.tsv"),
    output:
        pictures=S("stimuli/pictures.h5"),
        labels=S("stimuli/pictures.tsv"),
        controls=S("stimuli/control_rdms.h5"),
    log:
        S("logs/pictures.log"),
    params:
        settings=settings("pictures"),
        source=source("pictures"),
        io=io,
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "corticode pictures {params.io} --settings {params.settings:q} --log {log:q}"


rule windows:
    input:
        words=S("stimuli/words.tsv"),
    output:
        windows=S("stimuli/windows.tsv"),
        controls=S("stimuli/window_control_rdms.h5"),
    log:
        S("logs/windows.log"),
    params:
        settings=settings("windows"),
        source=source("windows"),
        io=io,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "corticode windows {params.io} --settings {params.settings:q} --log {log:q}"


rule training_set:
    input:
        **({"bids": S("bids")} if STUDY.data.source == "phantom" else {}),
        **training_texts(),
    output:
        training_set=S("networks/training_set.h5"),
    log:
        S("logs/training_set.log"),
    params:
        settings=settings("training-set"),
        source=source("training-set"),
        io=io,
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "corticode training-set {params.io} --settings {params.settings:q} --log {log:q}"
