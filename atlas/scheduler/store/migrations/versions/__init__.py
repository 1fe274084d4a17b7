"""Alembic's migrations; an installed wheel needs them as package data."""
