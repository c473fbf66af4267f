"""Tests of role email."""
