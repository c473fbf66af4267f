"""Tests of the mail ledger."""
