"""What the modules that share a driver have in common."""
