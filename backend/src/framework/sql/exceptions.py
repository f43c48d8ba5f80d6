"""What can go wrong with PostgreSQL."""


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, does not answer in time, or has ended the connection."""
