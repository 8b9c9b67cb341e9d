"""Configurations to paste: for a program, for ``ray start``, the environment, and KubeRay.

Each form is made of one `fsspill.deployment.plan.Plan`, and imports no Ray. Numbers in comments are
those of ``docs/scale.md``.
"""
