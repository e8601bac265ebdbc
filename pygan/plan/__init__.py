"""What a training will need, before it is begun: memory by part, time, disk; and what would make it fit."""
