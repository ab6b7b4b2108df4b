"""Which simulated studies a certificate is made of; light, since the workflow reads it at every start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RECORDED = "recorded"
# What the reader is told of each design; `decoders.alignment.certificate.cells` holds the designs.
DESIGNS = {
    "nothing": "no model has anything to do with the subjects",
    "equal": "three rules and a control, all equally good",
    "seeds": "the same, and seeds that matter more than the rule",
    "planted": "a strong, a weak and a worthless rule, and a weak control",
    "time_nothing": "people in the MEG who answer to all stimuli alike, noise correlated in time",
    "time_planted": "two equal rules planted from 60 ms on with a peak at 110 ms, and a worthless one",
    "permuted": "the study's own recordings with permuted stimulus labels",
}


@dataclass(frozen=True)
class Size:
    """Numbers of a simulated study.

    Attributes
    ----------
    n_stimuli, n_subjects, n_seeds : int
    """

    n_stimuli: int
    n_subjects: int
    n_seeds: int = 1

    @property
    def label(self) -> str:
        """How the size is called in the table."""
        seeds = f", {self.n_seeds} seeds" if self.n_seeds > 1 else ""
        return f"{self.n_stimuli} stimuli, {self.n_subjects} subject{'s' * (self.n_subjects > 1)}{seeds}"


SIZES = (Size(24, 8, 3), Size(12, 5), Size(40, 15), Size(24, 1))
LAYOUT = {
    f"{design}-{size.n_stimuli}x{size.n_subjects}x{size.n_seeds}": (design, size)
    for design, size in [
        *((design, size) for design in ("nothing", "equal", "planted") for size in SIZES),
        ("seeds", Size(24, 8, 2)),
        ("seeds", Size(24, 8, 3)),
        # Fewer than ten stimuli are not resampled: differences are then about these stimuli alone.
        ("nothing", Size(8, 10)),
    ]
}
# Studies over time (`decoders.alignment.certificate.timed_cells`).
TIME_LAYOUT = {
    f"{design}-{size.n_stimuli}x{size.n_subjects}": (design, size)
    for design, size in (
        ("time_nothing", Size(16, 8)),
        ("time_nothing", Size(12, 15)),
        ("time_nothing", Size(16, 1)),
        ("time_planted", Size(16, 8)),
    )
}


def cell_names(has_recordings: bool, over_time: bool = False, kinds: Sequence[str] | None = None) -> list[str]:
    """Return the names of all cells of a study.

    Parameters
    ----------
    has_recordings : bool
        Whether recorded RDMs are there, whose labels are permuted.
    over_time : bool
        Whether the study aligns in time.
    kinds : sequence of {"rsa", "time"}, optional
        As the setting `certificate.cells`.
    """
    chosen = kinds or (("rsa", "time") if over_time else ("rsa",))
    single = [*LAYOUT, *([RECORDED] if has_recordings else [])] if "rsa" in chosen else []
    return [*single, *(TIME_LAYOUT if "time" in chosen else ())]
