"""What lets one process of many do what must be done once."""
