"""The image and both profiles of ``compose.yaml``, brought up by a real engine."""
