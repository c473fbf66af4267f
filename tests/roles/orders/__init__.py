"""Tests of role orders."""
