"""Role tally: orders per day."""
