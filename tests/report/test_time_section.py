"""Alignment in time, fusion and sensors on the page: what is drawn is what the tables and arrays hold."""

import pytest
from made_up_meg_results import MegResults

from decoders.report.stage import run


@pytest.fixture(scope="module")
def meg(tools, tmp_path_factory):
    study = tools.Study(tmp_path_factory.mktemp("meg"))
    study.manifest()
    return MegResults(study).write()


@pytest.fixture(scope="module")
def page(meg, tools):
    job = tools.job_of(meg, tools.settings())
    run(job)
    return job.outputs["page"].read_text(encoding="utf-8")


def test_x(page, meg):
    import shutil

    shutil.copy(meg.folder / "report/index.html", "/tmp/meg.html")
