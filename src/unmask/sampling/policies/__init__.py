"""Policies: which positions a step unmasks, and which it masks again."""
