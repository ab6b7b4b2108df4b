# Where the recordings come from: the phantom is written, everything else is read; all end in the manifest.

if STUDY.data.source == "phantom":

    rule simulate:
        output:
            bids=directory(S("bids")),
        log:
            S("logs/simulate.log"),
        params:
            settings=settings("simulate"),
            source=source("simulate"),
            io=io,
        resources:
            mem_mb=4000,
            runtime=30,
        shell:
            "corticode simulate {params.io} --settings {params.settings:q} --log {log:q}"


checkpoint manifest:
    input:
        **({"bids": S("bids")} if STUDY.data.source == "phantom" else {}),
    output:
        manifest=S("manifest.tsv"),
    log:
        S("logs/manifest.log"),
    params:
        settings=settings("manifest"),
        source=source("manifest"),
        tree=tree(),
        io=io,
    resources:
        mem_mb=2000,
        runtime=120,
    shell:
        "corticode manifest {params.io} --settings {params.settings:q} --log {log:q}"
