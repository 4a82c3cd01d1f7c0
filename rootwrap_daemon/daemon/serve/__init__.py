"""Accept connections and answer requests on them."""
