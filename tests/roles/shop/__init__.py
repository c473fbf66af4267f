"""Role shop."""
