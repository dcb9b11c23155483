"""What computes a network: torch, packed weights, eight bits, OpenVINO."""
