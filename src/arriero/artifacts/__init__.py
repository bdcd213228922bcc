"""Artifacts: what a stage leaves behind, written whole or not at all, with its lineage."""

from arriero.artifacts.artifact import Artifact
from arriero.artifacts.manifest import LicenseRecord, Manifest
from arriero.artifacts.paths import InputPath, InputTree

__all__ = ["Artifact", "InputPath", "InputTree", "LicenseRecord", "Manifest"]
