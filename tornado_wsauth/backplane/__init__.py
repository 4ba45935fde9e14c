"""What carries messages between the processes of one application."""
