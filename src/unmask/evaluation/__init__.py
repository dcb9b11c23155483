"""Likelihoods, their errors, and samplers measured against exact denoisers."""
