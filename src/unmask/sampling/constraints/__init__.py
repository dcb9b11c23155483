"""Constraints: sets of tokens for a position, and regular expressions."""
