"""Write audit records to their sink, one line for each decision."""
