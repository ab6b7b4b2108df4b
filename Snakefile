# Corticode: from a BIDS folder to an HTML report.
#   snakemake --cores 16                                             the demo study
#   snakemake --cores 16 --configfile config/studies/objects92.yaml  another study
# Rules only name files; what they run is `corticode STAGE`, one verb per stage of the library.

if "data" not in config:
    # Not merged into a study that is given: blocks that it leaves out must stay absent.
    configfile: "config/config.yaml"


container: "workflow/corticode.sif"  # used with --sdm apptainer alone; `make container` builds it


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/signal.smk"
include: "workflow/rules/stimuli.smk"
include: "workflow/rules/learning.smk"
include: "workflow/rules/decoding.smk"
include: "workflow/rules/alignment.smk"
include: "workflow/rules/sensors.smk"
include: "workflow/rules/certificate.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


localrules:
    all,


rule all:
    default_target: True
    input:
        S("report/index.html"),
        S("provenance.json"),
