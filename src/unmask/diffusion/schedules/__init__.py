"""Noise schedules: alpha_t, the share of tokens that are still visible at time t."""
