# Decoding: names and voxel maps per subject, encoding models over all subjects, then one table of scores.
# Before any of it, what trains and what tests is declared and audited.


rule splits:
    input:
        manifest=S("manifest.tsv"),
        quality=S("preprocessed/quality.tsv"),
        words=lambda wildcards: [] if wildcards.analysis == "names" else S("stimuli/words.tsv"),
    output:
        splits=S("decoding/{analysis}-splits.json"),
    log:
        S("logs/splits_{analysis}.log"),
    params:
        settings=lambda wildcards: slice_of(f"splits-{wildcards.analysis}", None),
        source=lambda wildcards: cached_digest(f"splits-{wildcards.analysis}", ""),
        io=io,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "corticode splits-{wildcards.analysis} {params.io} --settings {params.settings:q} --log {log:q}"


rule leaks:
    input:
        manifest=S("manifest.tsv"),
        splits=[S(f"decoding/{analysis}-splits.json") for analysis in DECODED],
        words=S("stimuli/words.tsv") if ENCODING or VOXELS or SENSED else [],
        # An edited text is audited anew, before anything reads it.
        **corpus_files("free_text", "encode", "meg"),
    output:
        leaks=report(S("decoding/leaks.tsv"), category="Decoding", caption="../report/leaks.rst"),
    log:
        S("logs/leaks.log"),
    params:
        settings=settings("leaks"),
        source=source("leaks"),
        io=io,
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "corticode leaks {params.io} --settings {params.settings:q} --log {log:q}"


rule names:
    input:
        **audited("names"),
        manifest=S("manifest.tsv"),
        recording=lambda wildcards: recordings(NAMES.task, wildcards.subject),
    output:
        scores=S("decoding/sub-{subject}_names-scores.tsv"),
        nulls=S("decoding/sub-{subject}_names-nulls.h5"),
        text=S("decoding/sub-{subject}_names-text.tsv"),
        arrays=S("decoding/sub-{subject}_names.h5"),
    log:
        S("logs/names_sub-{subject}.log"),
    params:
        settings=settings("names"),
        source=source("names"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode names {params.io} --settings {params.settings:q} --log {log:q}"


rule encode:
    input:
        **audited("encode"),
        manifest=S("manifest.tsv"),
        words=S("stimuli/words.tsv"),
        recording=lambda wildcards: recordings(ENCODING.task),
        **corpus_files("encode"),
    output:
        scores=S("decoding/encode-scores.tsv"),
        arrays=S("decoding/encode.h5"),
    log:
        S("logs/encode.log"),
    params:
        settings=settings("encode"),
        source=source("encode"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode encode {params.io} --settings {params.settings:q} --log {log:q}"


# Pairing 0 is the text as it was heard; the others are nulls.
rule gate:
    input:
        **vectors(),
        **audited("voxels"),
        manifest=S("manifest.tsv"),
        words=S("stimuli/words.tsv"),
        recording=lambda wildcards: recordings(VOXELS.task, wildcards.subject),
    output:
        gate=S("decoding/sub-{subject}_pairing-{pairing}_gate.h5"),
    log:
        S("logs/gate_sub-{subject}_pairing-{pairing}.log"),
    params:
        settings=settings("gate"),
        source=source("gate"),
        io=io,
    resources:
        mem_mb=4000,
        runtime=120,
    shell:
        "corticode gate {params.io} --settings {params.settings:q} --log {log:q}"


rule voxels:
    input:
        **vectors(),
        **audited("voxels"),
        manifest=S("manifest.tsv"),
        words=S("stimuli/words.tsv"),
        recording=lambda wildcards: recordings(VOXELS.task, wildcards.subject),
        gates=lambda wildcards: gates(wildcards.subject),
    output:
        scores=S("decoding/sub-{subject}_voxels-scores.tsv"),
        nulls=S("decoding/sub-{subject}_voxels-nulls.h5"),
        recovery=S("decoding/sub-{subject}_recovery.tsv"),
        arrays=S("decoding/sub-{subject}_voxels.h5"),
        **map_files(),
    log:
        S("logs/voxels_sub-{subject}.log"),
    params:
        settings=settings("voxels"),
        source=source("voxels"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode voxels {params.io} --settings {params.settings:q} --log {log:q}"


rule clusters:
    input:
        **{name: S(f"decoding/sub-{{subject}}_map-{name}_statmap.nii.gz") for name in MAPS},
        arrays=S("decoding/sub-{subject}_voxels.h5"),
        manifest=S("manifest.tsv"),
        **atlas_file(),
    output:
        clusters=S("decoding/sub-{subject}_clusters.tsv"),
    log:
        S("logs/clusters_sub-{subject}.log"),
    params:
        settings=settings("clusters"),
        source=source("clusters"),
        io=io,
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "corticode clusters {params.io} --settings {params.settings:q} --log {log:q}"


rule stability:
    input:
        **vectors(),
        **audited("voxels"),
        manifest=S("manifest.tsv"),
        words=S("stimuli/words.tsv"),
        recording=lambda wildcards: recordings(VOXELS.task, wildcards.subject),
    output:
        rate=S("decoding/sub-{subject}_rate.tsv"),
        halves=S("decoding/sub-{subject}_halves.tsv"),
    log:
        S("logs/stability_sub-{subject}.log"),
    params:
        settings=settings("stability"),
        source=source("stability"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=480,
    shell:
        "corticode stability {params.io} --settings {params.settings:q} --log {log:q}"


rule language:
    input:
        **audited("free_text"),
        words=S("stimuli/words.tsv"),
        **corpus_files("free_text"),
    output:
        weights=S("decoding/language.safetensors"),
        **vectors(),
    log:
        S("logs/language.log"),
    params:
        settings=settings("language"),
        source=source("language"),
        io=io,
    resources:
        mem_mb=4000,
        runtime=240,
    shell:
        "corticode language {params.io} --settings {params.settings:q} --log {log:q}"


rule free_text:
    input:
        **vectors(),
        **audited("free_text"),
        manifest=S("manifest.tsv"),
        words=S("stimuli/words.tsv"),
        language=S("decoding/language.safetensors"),
        maps=S("decoding/sub-{subject}_voxels.h5"),
        recording=lambda wildcards: with_neighbour(VOXELS.task, wildcards.subject),
    output:
        scores=S("decoding/sub-{subject}_free_text-scores.tsv"),
        nulls=S("decoding/sub-{subject}_free_text-nulls.h5"),
        text=S("decoding/sub-{subject}_free_text-text.tsv"),
    log:
        S("logs/free_text_sub-{subject}.log"),
    params:
        settings=settings("free_text"),
        source=source("free_text"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=480,
    shell:
        "corticode free_text {params.io} --settings {params.settings:q} --log {log:q}"


rule across:
    input:
        **vectors(),
        **audited("across"),
        manifest=S("manifest.tsv"),
        words=S("stimuli/words.tsv"),
        maps=lambda wildcards: [S(f"decoding/sub-{subject}_voxels.h5") for subject in mapped_subjects()],
        recording=lambda wildcards: [path for subject in mapped_subjects() for path in recordings(VOXELS.task, subject)],
    output:
        scores=S("decoding/sub-{subject}_across-scores.tsv"),
        nulls=S("decoding/sub-{subject}_across-nulls.h5"),
        recovery=S("decoding/sub-{subject}_across-recovery.tsv"),
        arrays=S("decoding/sub-{subject}_across-windows.h5"),
    log:
        S("logs/across_sub-{subject}.log"),
    params:
        settings=settings("across"),
        source=source("across"),
        io=io,
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "corticode across {params.io} --settings {params.settings:q} --log {log:q}"


rule across_group:
    input:
        scores=parts_across("scores"),
        arrays=parts_across("windows", "h5"),
        nulls=parts_across("nulls", "h5"),
    output:
        scores=S("decoding/across-scores.tsv"),
        across=report(S("decoding/across.tsv"), category="Decoding", caption="../report/across.rst"),
    log:
        S("logs/across_group.log"),
    params:
        settings=settings("across-group"),
        source=source("across-group"),
        io=io,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "corticode across-group {params.io} --settings {params.settings:q} --log {log:q}"


# What was decoded within people, over the group of them.
rule decoding_group:
    input:
        scores=parts_of_people("scores", "tsv"),
        nulls=parts_of_people("nulls", "h5"),
    output:
        scores=S("decoding/group-scores.tsv"),
    log:
        S("logs/decoding_group.log"),
    params:
        settings=settings("decoding-group"),
        source=source("decoding-group"),
        io=io,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "corticode decoding-group {params.io} --settings {params.settings:q} --log {log:q}"


rule decoding:
    input:
        **({"leaks": S("decoding/leaks.tsv")} if DECODED else {}),
        scores=decoding_parts("scores"),
        text=decoding_parts("text"),
        recovery=decoding_parts("recovery"),
    output:
        scores=report(S("decoding/scores.tsv"), category="Decoding", caption="../report/scores.rst"),
        text=S("decoding/text.tsv"),
        recovery=S("decoding/recovery.tsv"),
    log:
        S("logs/decoding.log"),
    params:
        settings=settings("decoding"),
        source=source("decoding"),
        io=io,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "corticode decoding {params.io} --settings {params.settings:q} --log {log:q}"
