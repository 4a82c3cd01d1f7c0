"""Hold a policy against a file of expectations."""
