# Learning: a job per rule, architecture and seed. Checkpoints live outside the outputs and survive a kill.


rule train:
    input:
        training_set=S("networks/training_set.h5"),
        **({"pictures": S("stimuli/pictures.h5")} if STUDY.alignment else {}),
    output:
        card=S(f"{CARD}/card.json"),
        weights=S(f"{CARD}/weights.safetensors"),
        features=S(f"{CARD}/features.h5"),
        curves=S(f"{CARD}/curves.tsv"),
    log:
        S("logs/train_{rule}_{architecture}_seed-{seed}.log"),
    params:
        settings=settings("train"),
        source=source("train"),
        io=io,
    resources:
        mem_mb=4000,
        runtime=240,
    shell:
        "corticode train {params.io} --settings {params.settings:q} --log {log:q}"


rule networks:
    input:
        card=[S(f"networks/{name}/card.json") for name in NETWORKS],
    output:
        networks=S("networks/networks.tsv"),
    log:
        S("logs/networks.log"),
    params:
        settings=settings("networks"),
        source=source("networks"),
        io=io,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "corticode networks {params.io} --settings {params.settings:q} --log {log:q}"
