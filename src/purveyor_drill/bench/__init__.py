"""The benchmark: Purveyor beside a naive service on the same private servers, in turn."""
