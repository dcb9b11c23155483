"""Objectives: the bounds that a denoiser is trained on and judged by."""
