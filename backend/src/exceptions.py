"""What any part may raise while the service starts."""

# The exit status that uvicorn's supervisor takes as "starting it again will not help".
DO_NOT_RESTART = 3


class CannotStart(Exception):
    """A sentence for the person who starts the service: what to set or do."""
