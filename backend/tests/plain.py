"""The service without the fast path, in which FastAPI answers: `python -m tests.plain`."""

from src.__main__ import main
from src.config import get_settings
from src.main import create_app

if __name__ == "__main__":
    main("tests.plain:app")
else:
    app = create_app(get_settings(), is_fast=False)
