"""What any part may raise at start-up."""

# If a worker ends with this exit status, uvicorn's supervisor starts no other worker in its place.
DO_NOT_RESTART = 3


class CannotStart(Exception):
    """Its text is a sentence that says what to set or do."""
