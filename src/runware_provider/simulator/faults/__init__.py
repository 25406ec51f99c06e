"""Faults: the plan, its rules, and the decision which of them fire."""

from runware_provider.simulator.faults.plan import BadPlan, Fault, FaultPlan
from runware_provider.simulator.faults.staging import Staging, Subject, first_of

__all__ = ["BadPlan", "Fault", "FaultPlan", "Staging", "Subject", "first_of"]
