"""HTTP as this service speaks it, whatever it serves: from the connection to the answer."""
