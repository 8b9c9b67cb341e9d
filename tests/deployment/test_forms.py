"""The forms of a configuration."""

from __future__ import annotations

import json

from fsspill.deployment.forms import FORMS
from fsspill.deployment.manifests import Images
from fsspill.deployment.plan import make_plan

IMAGES = Images("2.60.0", "image")


def test_every_form_is_for_people_and_for_programs() -> None:
    """Both name the URI; a trade-off is in the comments alone."""
    for name, form in FORMS.items():
        plan = make_plan(["s3://bucket/spill"], kubernetes=form.kubernetes)
        text = form.render(plan, IMAGES)
        described = json.dumps(form.describe(plan, IMAGES))
        assert "s3://bucket/spill" in text, name
        assert "s3://bucket/spill" in described, name
        assert "range_size" in text.lower(), name
        assert "range_size" not in described.lower(), name


def test_the_commands_of_ray_start() -> None:
    """With the environment that they need."""
    described = FORMS["start"].describe(make_plan(["s3://a", "gs://b"]), IMAGES)
    assert described == {
        "environment": {"FSSPILL_URI": '["s3://a", "gs://b"]', "RAY_max_io_workers": "4"},
        "head": "ray start --head",
        "node": "ray start --address=HEAD:6379",
    }
