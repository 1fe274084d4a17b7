"""What starts when in the next hours, and whether the slots are enough."""
