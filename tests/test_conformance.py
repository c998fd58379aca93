"""Every model of the catalogue keeps every law, and the laws catch those who break them."""

from __future__ import annotations

import pytest

from sparring import models
from sparring.testing import checks

CHECKS = [pytest.param(check, id=name) for name, check in checks(processes=True)]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", models.names())
def test_model(name, check):
    check(name)
