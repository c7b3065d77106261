"""What is wrong with lists or chips before anybody trains on them: repetitions, leaks between splits, conflicts."""

from rsft.audit.chips import audit_folder, audit_store
from rsft.audit.findings import Audit, Finding
from rsft.audit.lists import audit_lists

__all__ = ["Audit", "Finding", "audit_folder", "audit_lists", "audit_store"]
