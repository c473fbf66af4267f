"""Tests of role auth."""
