"""Samplers by name: one class each, with its options and the defaults of the paper.

A sampler takes an option if its class has the field. The papers are in the docstrings of the
policies and in ``docs/samplers.md``. Nothing here loads torch before a sampler is made.
"""
