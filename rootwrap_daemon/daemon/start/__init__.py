"""Check and settle the process before it serves."""
