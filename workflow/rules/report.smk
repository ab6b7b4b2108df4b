# Verdicts from the tables of the wings, then the page.


rule verdict:
    input:
        **({"decoding": S("decoding/scores.tsv")} if STUDY.decoding else {}),
        **(
            {name: S(f"alignment/{name}.tsv") for name in ("scores", "ceilings", "inference")}
            if IMAGED
            else {}
        ),
        **(
            {name: S(f"alignment/{name}.tsv") for name in ("time_scores", "time_ceilings", "time_inference", "time_clusters")}
            if TIMED
            else {}
        ),
        **({"fusion": S("alignment/fusion.tsv")} if FUSED else {}),
        **encoding_files(),
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
        "corticode verdict {params.io} --settings {params.settings:q} --log {log:q}"


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
        "corticode report {params.io} --settings {params.settings:q} --log {log:q}"
