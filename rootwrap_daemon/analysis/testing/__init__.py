"""Test a policy against a file of expectations."""
