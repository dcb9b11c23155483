"""The forward side: schedules, processes, objectives, and what a denoiser is."""
