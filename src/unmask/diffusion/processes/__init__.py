"""Forward processes: how clean tokens are corrupted."""
