"""What any part may raise at start-up."""

# The exit status that uvicorn's supervisor takes as "starting it again will not help".
DO_NOT_RESTART = 3


class CannotStart(Exception):
    """Its text is a sentence that says what to set or do."""
