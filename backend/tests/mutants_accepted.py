ACCEPTED: dict[str, dict[str, str]] = {}
