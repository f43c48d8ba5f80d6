"""Run the service with other limits: `python -m tests.limited src.main:app '{"tokens_…": 0.5}'`."""

import json
import sys
from importlib import import_module

from src.__main__ import main

MODULES = {
    "bodies": "src.framework.web.bodies",
    "events": "src.framework.web.events",
    "expiry": "src.services.expiry_service",
    "protocol": "src.framework.server.protocol",
    "tokens": "src.services.known_tokens",
}

if __name__ == "__main__":
    _, app, limits = sys.argv
    for name, value in json.loads(limits).items():
        module, constant = name.split("_", 1)
        setattr(import_module(MODULES[module]), constant, value)
    main(app)
