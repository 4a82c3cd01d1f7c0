"""Facts about programs and regular expressions that rules are made of."""
