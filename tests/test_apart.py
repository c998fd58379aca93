"""What a run has met does not judge it, by whatever name it goes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sparring.apart import known_by, learnt_from, met_as
from sparring.errors import UserError
from sparring.evaluation import choose_split
from sparring.job import Job


def run_of(facts=None, normal=(), recognised=(), **settings):
    job = Job(model="opengan", **settings)
    return SimpleNamespace(
        job=job, facts=facts or {}, normal=normal, recognised=recognised, owns=lambda data: data in (None, job.data)
    )


def test_parts_of_a_folder_are_known_by_their_files(defects):
    whole = known_by(defects, "train")
    assert len(whole) == 24
    assert known_by(defects / "train") == whole == known_by(defects / "train/good", None)
    assert known_by(defects, "train[:5]") < whole
    assert whole.isdisjoint(known_by(defects, "test"))
    assert len(known_by(defects, "test", ("good",))) == len(known_by(defects, "test", besides=("good",))) == 6
    assert known_by(defects / "nowhere") == known_by([1, 2]) == set()


def test_files_of_one_name_in_two_folders_are_others(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", np.zeros((30, 4), np.float32))
    one, other = (known_by(tmp_path / folder / "x.npy", None) for folder in ("a", "b"))
    assert len(one) == 30
    assert one.isdisjoint(other)
    assert known_by(tmp_path / "a/../a/x.npy", "[:5]") < one


def test_parts_of_named_data_are_known_by_their_numbers():
    assert len(known_by("digits", "train")) + len(known_by("digits", "test")) == 1797
    assert known_by("digits", "train").isdisjoint(known_by("digits", "test"))
    assert len(known_by("digits", "train[:50]") & known_by("digits", "train[40:]")) == 10


@pytest.mark.parametrize(("split", "met"), [("train[:50]", True), ("train[50:]", False), ("test", False)])
def test_a_part_of_the_training_split_is_found(split, met):
    assert learnt_from(run_of(data="digits", split="train[:50]"), "digits", split) is met


def test_what_chose_taught_or_calibrated_does_not_judge(defects):
    test = {"data": str(defects), "split": "test"}
    for run, what in (
        (run_of(data="digits", open_validation=str(defects / "test")), "weights were chosen by"),
        (run_of(data="digits", outliers=str(defects / "test")), "learnt from as outliers"),
        (run_of({"calibrated": test}, data="digits"), "was calibrated on"),
    ):
        assert what in met_as(run, defects, "test")
        assert met_as(run, defects, "train") is None
        with pytest.raises(UserError, match=rf"holds examples that .*{what}.*: judge it on others\."):
            choose_split(run, defects, "test")
        assert choose_split(run, defects, "train") == "train"


def test_open_examples_are_those_of_no_known_class():
    run = run_of(data="digits", split="test", open_validation="digits", recognised=("0", "1"))
    assert met_as(run, "digits", "train")
    everything = run_of(data="digits", split="test", open_validation="digits", recognised=tuple("0123456789"))
    assert met_as(everything, "digits", "train") is None
