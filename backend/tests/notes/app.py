"""The service with notes."""

from src.config import get_settings
from src.main import create_app
from tests.notes import router

app = create_app(get_settings())
app.include_router(router.router)
