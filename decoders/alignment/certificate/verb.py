"""What `corticode certify` does: every cell in turn, then the certificate, without a workflow."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from decoders.alignment.certificate.certificate import require
from decoders.alignment.certificate.layout import RECORDED, cell_names
from decoders.config import StudySettings, load_settings, parse_settings
from decoders.errors import SettingsError
from decoders.stage import SettingsSlice, run_stage

log = logging.getLogger("corticode")


def certify(
    study: Path | None, full: bool, output: Path, rdms: Path | None = None, controls: Path | None = None
) -> dict[str, Any]:
    """Simulate, judge and write a certificate.

    Parameters
    ----------
    study : Path or None
        Study file; its comparator, correction and seed are certified. None: the defaults.
    full : bool
        2,000 studies of each kind.
    output : Path
        Of certificate.json; its table stands beside it.
    rdms, controls : Path, optional
        Recorded and control RDMs of a study, whose labels are permuted.

    Returns
    -------
    dict
        The certificate.

    Raises
    ------
    CorticodeError
        A bound is broken; the certificate is written all the same.
    """
    if (rdms is None) != (controls is None):
        raise SettingsError("--rdms and --controls belong together: give both files of a study, or none.")
    settings = _settings(study, full)
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        over_time = settings.alignment is not None and settings.alignment.time is not None
        kinds = settings.certificate.cells if settings.certificate else None
        for name in cell_names(rdms is not None, over_time, kinds):
            inputs = {"rdms": [rdms], "controls": [controls]} if name == RECORDED and rdms and controls else {}
            parts.append(Path(folder) / f"{name}.tsv")
            run_stage(SettingsSlice.of("certify-cell", settings), inputs, {"findings": parts[-1]}, {"cell": name})
        outputs = {"certificate": output, "checks": output.with_suffix(".tsv")}
        run_stage(SettingsSlice.of("certificate", settings), {"findings": parts}, outputs, log=log)
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    require(found)
    return found


def _settings(study: Path | None, full: bool) -> StudySettings:
    settings = load_settings(study) if study else parse_settings({"study": "certify", "data": {"source": "none"}})
    values = settings.model_dump(mode="json")
    values["certificate"] = {**(values["certificate"] or {}), **({"mode": "full", "n_studies": None} if full else {})}
    return parse_settings(values)
