"""Reading plans: YAML in, a validated ``model.plan.Plan`` out, or a refusal with file, line and the nearest valid name."""

from harness.plan.catalogue import Catalogue
from harness.plan.load import load_plan

__all__ = ["Catalogue", "load_plan"]
