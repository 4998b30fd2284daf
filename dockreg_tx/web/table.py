"""The table of all routes: path, methods, the rights each needs, and who answers."""

from __future__ import annotations

from dataclasses import dataclass

from dockreg_tx.web.exposition import Exposition
from dockreg_tx.web.guard import Need, Rights
from dockreg_tx.web.health import Health
from dockreg_tx.web.routes import Handle, Operation, Route
from dockreg_tx.web.search import SearchIndex
from dockreg_tx.web.token import TokenService
from dockreg_tx.web.v2.base import Base
from dockreg_tx.web.v2.blobs import Blobs
from dockreg_tx.web.v2.catalog import Catalog
from dockreg_tx.web.v2.extensions import Extensions
from dockreg_tx.web.v2.manifests import Manifests
from dockreg_tx.web.v2.referrers import Referrers
from dockreg_tx.web.v2.tags import Tags
from dockreg_tx.web.v2.uploads import UploadSessions, source_scopes

PULL = ("pull",)
#: A pusher must see what is there already, but gets no content.
LOOK = ("pull", "push", "create")
PUSH = ("push", "create")
DELETE = ("delete",)
CATALOG = ("catalog",)
METRICS = ("metrics",)


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """The nouns that answer."""

    health: Health
    exposition: Exposition
    token: TokenService
    base: Base
    blobs: Blobs
    uploads: UploadSessions
    manifests: Manifests
    tags: Tags
    referrers: Referrers
    catalog: Catalog
    extensions: Extensions
    search: SearchIndex


def _reading(rights: Rights, handle: Handle, *, head_rights: Rights | None = None) -> dict[str, Operation]:
    return {"GET": Operation(rights, handle), "HEAD": Operation(head_rights or rights, handle)}


def registry_routes(endpoints: Endpoints) -> list[Route]:
    """Return every route of the registry."""
    repository = "/v2/<repository:name>"
    blobs, uploads, manifests = endpoints.blobs, endpoints.uploads, endpoints.manifests
    health = endpoints.health
    return [
        Route("root", "/", _reading(Need.NOTHING, health.root)),
        Route("healthz", "/healthz", _reading(Need.NOTHING, health.alive)),
        Route("readyz", "/readyz", _reading(Need.NOTHING, health.ready)),
        Route("debug.health", "/debug/health", _reading(Need.NOTHING, health.debug)),
        Route("metrics", "/metrics", _reading(METRICS, endpoints.exposition.get), is_repeatable=False),
        Route(
            "token",
            "/token",
            {
                "GET": Operation(Need.PASSWORD, endpoints.token.get),
                "POST": Operation(Need.PASSWORD, endpoints.token.post),
            },
        ),
        Route("jwks", "/.well-known/jwks.json", _reading(Need.NOTHING, endpoints.token.keys)),
        Route("base", "/v2/", _reading(Need.LOGIN, endpoints.base.get)),
        Route("catalog", "/v2/_catalog", _reading(CATALOG, endpoints.catalog.get)),
        Route("extensions", "/v2/_oci/ext/discover", _reading(Need.IDENTITY, endpoints.extensions.discover)),
        Route("ping", "/v1/_ping", _reading(Need.NOTHING, endpoints.search.ping)),
        Route("search", "/v1/search", _reading(CATALOG, endpoints.search.get)),
        Route(
            "uploads.new",
            f"{repository}/blobs/uploads/",
            {"POST": Operation(PUSH, uploads.post, source_scopes)},
        ),
        Route(
            "uploads.session",
            f"{repository}/blobs/uploads/<upload>",
            {
                **_reading(LOOK, uploads.get),
                "PATCH": Operation(PUSH, uploads.patch),
                "PUT": Operation(PUSH, uploads.put),
                "DELETE": Operation(PUSH, uploads.delete),
            },
            uploads.headers_of_error,
        ),
        Route(
            "blobs",
            f"{repository}/blobs/<digest>",
            {**_reading(PULL, blobs.get, head_rights=LOOK), "DELETE": Operation(DELETE, blobs.delete)},
        ),
        Route(
            "manifests",
            f"{repository}/manifests/<reference>",
            {
                **_reading(PULL, manifests.get, head_rights=LOOK),
                "PUT": Operation(PUSH, manifests.put),
                "DELETE": Operation(DELETE, manifests.delete),
            },
        ),
        Route("tags", f"{repository}/tags/list", _reading(PULL, endpoints.tags.get)),
        Route("referrers", f"{repository}/referrers/<digest>", _reading(PULL, endpoints.referrers.get)),
    ]
