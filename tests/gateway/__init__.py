"""The split shape behind a real nginx."""
