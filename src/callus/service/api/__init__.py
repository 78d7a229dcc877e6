"""The HTTP API: one module a subject, each with its router.

These modules do without ``from __future__ import annotations``: FastAPI reads the annotations when it runs.
"""

from callus.service.api.accounts import router as accounts_routes
from callus.service.api.events import router as events_routes
from callus.service.api.health import router as health_routes
from callus.service.api.images import router as images_routes
from callus.service.api.jobs import router as jobs_routes
from callus.service.api.login import router as login_routes
from callus.service.api.models import router as models_routes
from callus.service.api.pulls import router as pulls_routes
from callus.service.api.radiographs import router as radiographs_routes
from callus.service.api.resets import router as resets_routes
from callus.service.api.stow import router as stow_routes
from callus.service.api.studies import router as studies_routes
from callus.service.api.tokens import router as tokens_routes
from callus.service.api.verdicts import router as verdicts_routes
from callus.service.pages import router as pages_routes

ROUTERS = [
    health_routes,
    login_routes,
    accounts_routes,
    resets_routes,
    tokens_routes,
    radiographs_routes,
    studies_routes,
    images_routes,
    verdicts_routes,
    events_routes,
    jobs_routes,
    pulls_routes,
    models_routes,
    stow_routes,
    pages_routes,
]
"""All of them, in the order of the API's description; and the page's."""
