"""Judging models: likelihood bounds in comparable units."""
