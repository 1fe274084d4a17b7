"""The version of Atlas, for whoever may not import the package above it."""

from __future__ import annotations

__version__ = "0.1.0"
