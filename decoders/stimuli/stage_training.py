"""Stage ``training-set``: the pictures that all networks of a study are trained and tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from decoders.data.registry import fetch
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stimuli.training import Catalogue, TrainingPictures, choose
from decoders.stimuli.training_sources import cifar10, class_folder, mnist, phantom_pictures
from decoders.store.arrays import Array, write_arrays

_PICTURE_AXES = ("picture", "row", "column", "channel")


def run(job: Job) -> None:
    """Write training_set.h5: x_train, y_train, x_test, y_test, class_names."""
    training = job.settings.learning.training
    catalogue = _catalogue(job)
    chosen = choose(catalogue, training.n_train, training.n_test, training.size, job.rng("training-set"))
    job.log.info("%d training and %d test pictures of %s", len(chosen.x_train), len(chosen.x_test), catalogue.where)
    write_training_set(job.outputs["training_set"], chosen, training.dataset)


def _catalogue(job: Job) -> Catalogue:
    training, mirror = job.settings.learning.training, job.settings.data.mirror
    if training.dataset == "cifar10":
        return cifar10(fetch("img_cifar10_subset", mirror=mirror))
    if training.dataset == "mnist":
        return mnist(fetch("img_mnist", mirror=mirror))
    if training.dataset == "phantom":
        return phantom_pictures(job.input("bids"))
    if training.folder is None:
        remedy = "Name the folder with one sub-folder per class."
        raise InputError("a folder", "none", "learning.training.folder", remedy)
    return class_folder(Path(training.folder).expanduser(), training.n_test, job.rng("training-set", "split"))


def write_training_set(path: Path, pictures: TrainingPictures, dataset: str) -> None:
    """Write training pictures with their labels."""
    write_arrays(
        path,
        {
            "x_train": Array(pictures.x_train, _PICTURE_AXES),
            "y_train": Array(pictures.y_train, ("picture",)),
            "x_test": Array(pictures.x_test, _PICTURE_AXES),
            "y_test": Array(pictures.y_test, ("picture",)),
            "class_names": Array(np.array(pictures.class_names, dtype=object), ("class",)),
        },
        {"dataset": dataset},
    )
