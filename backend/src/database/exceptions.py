"""What can go wrong with PostgreSQL."""


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, or broke the connection off."""
