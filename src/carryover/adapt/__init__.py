"""Ways to adapt a pretrained network to a new task."""
