"""The table of routes, beside what else knows the routes by name."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.metrics import ENDPOINTS, METHODS
from dockreg_tx.web.table import registry_routes
from tests.registry.world import World
from tests.web.api import endpoints_of


class CountedTests(SynchronousTestCase):
    """Metrics have a place for every route, or its requests would vanish among the others."""

    def test_endpoints(self) -> None:
        """Every route is counted under its own name, and no name is left of a route that is gone."""
        routed = [route.endpoint for route in registry_routes(endpoints_of(World()))]
        self.assertEqual(sorted([*routed, "other"]), sorted(ENDPOINTS))

    def test_methods(self) -> None:
        """Every method that a route takes is counted under its own name."""
        routed = {method for route in registry_routes(endpoints_of(World())) for method in route.operations}
        self.assertEqual(set(), routed - set(METHODS))
