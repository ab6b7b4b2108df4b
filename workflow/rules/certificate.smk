# The certificate: simulated studies through the study's own inference, cell by cell, then judged together.


rule certify_cell:
    input:
        **(recorded_files() if STUDY.alignment else {}),
    output:
        findings=S("certificate/{cell}.tsv"),
    log:
        S("logs/certify_{cell}.log"),
    params:
        settings=settings("certify-cell"),
        source=source("certify-cell"),
        io=io,
    resources:
        mem_mb=2000,
        runtime=120,
    shell:
        "corticode certify-cell {params.io} --settings {params.settings:q} --log {log:q}"


rule certificate:
    input:
        findings=[S(f"certificate/{cell}.tsv") for cell in certified_cells()],
    output:
        certificate=report(S("certificate.json"), category="Certificate", caption="../report/certificate.rst"),
        checks=S("certificate/checks.tsv"),
    log:
        S("logs/certificate.log"),
    params:
        settings=settings("certificate"),
        source=source("certificate"),
        io=io,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "corticode certificate {params.io} --settings {params.settings:q} --log {log:q}"
