"""The load test and the synthetic cart: outsiders that speak the wire protocol."""
