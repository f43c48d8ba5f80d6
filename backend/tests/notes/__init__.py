"""A second resource, as a newcomer would add it: what it takes beside the framework.

In the service, each file would be in the folder of its kind, and the two lines of `app.py` would be
in `src/main.py`.
"""

from sqlalchemy.orm import registry
from sqlmodel import SQLModel


class Base(SQLModel, registry=registry()):
    """Stands for SQLModel: the service's own tables are apart from those of a test."""
