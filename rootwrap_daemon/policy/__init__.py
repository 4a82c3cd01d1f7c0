"""From words to things: the only place that looks at the host."""
