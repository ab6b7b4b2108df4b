"""Every setting of a study, defined once: closed, strict, with units and sources.

A study is a data set plus what to preprocess, and any of a decoding, a learning and an
alignment block. A block that is absent is not computed. The same model tree is exported
as the JSON schema in ``workflow/schemas``.
"""

from __future__ import annotations

from decoders.config.alignment import (
    AlignmentSettings,
    CertificateSettings,
    Comparator,
    Control,
    EncodingAlignmentSettings,
    SearchlightSettings,
    UserModel,
)
from decoders.config.alignment_meg import FusionSettings, TimeSettings
from decoders.config.base import Count, Name, NotNegative, Positive, Settings, Share
from decoders.config.decoding import (
    AcrossSettings,
    AllowedLeak,
    DecodingSettings,
    EncodingSettings,
    FreeTextSettings,
    LeakCheck,
    NamesSettings,
    VoxelMapSettings,
)
from decoders.config.decoding_meg import MegDecodingSettings
from decoders.config.learning import LearningSettings, TrainingSettings
from decoders.config.meg import MegSettings
from decoders.config.phantom_meg import PhantomMegSettings
from decoders.config.read import json_schema, load_settings, parse_settings, parse_slice, pick, read_study
from decoders.config.recordings import DataSettings, PhantomSettings, PreprocessSettings
from decoders.config.study import ReportSettings, StudySettings

__all__ = [
    "AlignmentSettings",
    "AcrossSettings",
    "AllowedLeak",
    "CertificateSettings",
    "Comparator",
    "Control",
    "Count",
    "DataSettings",
    "DecodingSettings",
    "EncodingAlignmentSettings",
    "EncodingSettings",
    "FreeTextSettings",
    "FusionSettings",
    "LeakCheck",
    "LearningSettings",
    "MegDecodingSettings",
    "MegSettings",
    "Name",
    "NamesSettings",
    "NotNegative",
    "PhantomMegSettings",
    "PhantomSettings",
    "Positive",
    "PreprocessSettings",
    "ReportSettings",
    "SearchlightSettings",
    "Settings",
    "Share",
    "StudySettings",
    "TimeSettings",
    "TrainingSettings",
    "UserModel",
    "VoxelMapSettings",
    "json_schema",
    "load_settings",
    "parse_settings",
    "parse_slice",
    "pick",
    "read_study",
]
