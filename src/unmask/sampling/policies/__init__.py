"""Policies: which positions are revealed, and which are masked again."""
