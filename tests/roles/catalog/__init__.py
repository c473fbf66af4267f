"""Tests of role catalog."""
