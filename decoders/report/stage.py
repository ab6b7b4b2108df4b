"""Stage ``report``: one offline page per study, and the record of where it came from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from decoders.errors import InputError
from decoders.report.page import MOST_BYTES, render_page
from decoders.report.provenance import summary as provenance_summary
from decoders.report.read import Results, read_results
from decoders.report.sections import (
    about,
    alignment,
    certificate,
    decoding,
    fusion,
    landing,
    learning,
    quality,
    time,
    voxels,
)
from decoders.stage import Job
from decoders.store.atomic import write_text
from decoders.store.tables import write_json

# In the order of the page.
SECTIONS = (landing, decoding, voxels, alignment, time, fusion, learning, certificate, quality, about)


def run(job: Job) -> None:
    """Write the page, and provenance.json with the records of all stages that it rests on."""
    results = read_results(job.settings, job.inputs)
    page = build_page(results, job.log)
    if len(page.encode("utf-8")) > MOST_BYTES:
        found = f"{len(page.encode('utf-8')) / 2**20:.1f} MiB"
        remedy = "Split the study, or set report.thumbnails to false."
        raise InputError(f"a page of at most {MOST_BYTES / 2**20:.0f} MiB", found, job.outputs["page"], remedy)
    write_text(job.outputs["page"], page)
    write_json(
        job.outputs["provenance"],
        provenance_summary(results.runs, job.settings.study, about.settings_values(job.settings)),
    )


def build_page(results: Results, log: logging.Logger | None = None) -> str:
    """Return the page of a study as HTML.

    Parameters
    ----------
    results : Results
        From `decoders.report.read.read_results`.
    log : Logger, optional
    """
    sections = [module.section(results) for module in SECTIONS]
    if log:
        log.info("sections: %s", ", ".join(section.key for section in sections if not section.empty))
    settings = results.settings
    title = settings.report.title or settings.study
    facts, sources = _facts(results, settings), about.attribution(settings)
    return render_page(settings.study, title, landing.summary(results), facts, sections, sources)


def _facts(results: Results, settings: Any) -> Sequence[tuple[str, str]]:
    manifest = results.table("manifest")
    facts = [
        (
            "Data",
            {
                "bids": settings.data.root,
                "registry": settings.data.name,
                "phantom": "simulated phantom of known truth",
                "none": "no recordings: learning rules alone",
            }[settings.data.source],
        )
    ]
    if len(manifest):
        used = manifest[manifest["status"] == "ok"]
        noun = "RDMs" if landing.of_rdms(used) else "Recordings"
        facts += [("People", str(used["subject"].nunique())), (noun, f"{len(used)} of {len(manifest)}")]
    blocks = {"decoding": settings.decoding, "learning": settings.learning, "alignment": settings.alignment}
    blocks["certificate"] = settings.certificate
    facts += [("Analyses", ", ".join(name for name, block in blocks.items() if block is not None) or "quality only")]
    if settings.learning is not None:
        facts += [("Networks", str(len(results.cards)))]
    return [*facts, ("Seed", str(settings.seed))]
