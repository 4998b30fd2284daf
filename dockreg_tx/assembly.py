"""Joins use cases, backends and web into one resource; the only place that knows all of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from twisted.internet.interfaces import IReactorTime

from dockreg_tx.access.accounts import Authenticator, VerifiedCredentials
from dockreg_tx.access.callers import Callers
from dockreg_tx.access.grants import Grant, anonymous_principal
from dockreg_tx.access.keys import KeyRing
from dockreg_tx.access.recent_callers import RecentCallers
from dockreg_tx.access.robots import RandomBytes, StoredTokens
from dockreg_tx.access.throttle import Throttle
from dockreg_tx.access.tokens import RETIRED_SECONDS, TokenIssuer
from dockreg_tx.access.user_file import MergedAccounts, UserFile
from dockreg_tx.audit import audit_file
from dockreg_tx.blobs.ballast import Ballast
from dockreg_tx.blobs.filesystem import FileBlobStore
from dockreg_tx.blobs.gate import DiskGate, GuardedDisk
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.staging import FileUploadStaging
from dockreg_tx.blobs.trash import FileTrash
from dockreg_tx.metrics import Counts
from dockreg_tx.ports import Blocking, HandsOff, NewId, Now, Records
from dockreg_tx.preparation import low_water_bytes
from dockreg_tx.registry.browse import Browse
from dockreg_tx.registry.clock import ClockWatch
from dockreg_tx.registry.collect import Collect, CollectionRules
from dockreg_tx.registry.pull import Pull
from dockreg_tx.registry.push import ManifestRules, Push
from dockreg_tx.registry.remove import Remove
from dockreg_tx.registry.scrub import Pace, Scrub, Suspects
from dockreg_tx.registry.search import Search
from dockreg_tx.registry.session_ids import SessionIds
from dockreg_tx.registry.sweep import Sweep
from dockreg_tx.registry.uploads import Uploads
from dockreg_tx.registry.verify import Verify
from dockreg_tx.settings import Settings
from dockreg_tx.web.audit import Auditor
from dockreg_tx.web.exposition import Exposition
from dockreg_tx.web.guard import Guard
from dockreg_tx.web.health import Health
from dockreg_tx.web.links import Links
from dockreg_tx.web.origin import Origins
from dockreg_tx.web.recent import RecentAnswers
from dockreg_tx.web.routes import RegistryResource, registry_app
from dockreg_tx.web.search import SearchIndex
from dockreg_tx.web.table import Endpoints, registry_routes
from dockreg_tx.web.token import TokenService
from dockreg_tx.web.v2.base import Base
from dockreg_tx.web.v2.blobs import Blobs
from dockreg_tx.web.v2.catalog import Catalog
from dockreg_tx.web.v2.extensions import Extensions
from dockreg_tx.web.v2.manifests import Manifests
from dockreg_tx.web.v2.referrers import Referrers
from dockreg_tx.web.v2.tags import Tags
from dockreg_tx.web.v2.uploads import UploadSessions


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a registry takes from its process."""

    clock: IReactorTime
    now: Now
    new_id: NewId
    random_bytes: RandomBytes
    #: Of the root; tells this registry's tokens from others'.
    instance_id: str
    #: Random bytes of this process, for the keys of its caches.
    secret: bytes
    #: Pools, so that bcrypt never waits for a disk nor a disk for bcrypt.
    storage: Blocking
    #: What the disk is asked through, and what of it is held back.
    gate: DiskGate
    ballast: Ballast
    passwords: Blocking
    auditing: HandsOff
    parsing: Blocking
    #: What is counted, and what renders it.
    counts: Counts
    exposition: Exposition
    #: What outlives a reload of the settings: who failed to log in, and whose password is known to be right.
    throttle: Throttle | None = None
    verified: VerifiedCredentials | None = None


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry put together: what the web serves, and what runs beside it."""

    resource: RegistryResource
    sweep: Sweep
    collect: Collect
    scrub: Scrub
    clock: ClockWatch
    origins: Origins
    user_file: UserFile | None
    health: Health


def assemble(settings: Settings, layout: RootLayout, records: Records, around: Surroundings) -> Registry:
    """Return the registry that these settings describe."""
    disk, suspects = GuardedDisk(around.gate), Suspects()
    blobs = FileBlobStore(
        layout=layout,
        blocking=around.storage,
        new_id=around.new_id,
        disk=disk,
        note_suspect=suspects.add,
    )
    hold = max(settings.gc.grace_seconds, settings.gc.trash_seconds, settings.uploads.expire_after_seconds)
    clock = ClockWatch(records=records, hold_seconds=hold)
    uploads = Uploads(
        records=records,
        push_records=records,
        staging=FileUploadStaging(layout=layout, blocking=around.storage, clock=around.clock, disk=disk),
        now=around.now,
        new_id=around.new_id,
        ids=SessionIds(
            instance_id=around.instance_id,
            random_bytes=around.random_bytes,
            now=around.now,
            expire_after_seconds=settings.uploads.expire_after_seconds,
            is_steady=clock.is_steady,
        ),
        low_water_bytes=low_water_bytes(settings, layout),
        is_reserve_spent=partial(_is_spent, around),
    )
    pull = Pull(
        records=records,
        push_records=records,
        blobs=blobs,
        now=around.now,
        renew_after_seconds=settings.gc.grace_seconds / 4,
    )
    push = Push(
        records=records,
        browse=records,
        blobs=blobs,
        blocking=around.parsing,
        now=around.now,
        rules=_manifest_rules(settings),
    )
    remove = Remove(records=records, pull=records, now=around.now)
    browse = Browse(records=records, pull=records)
    links = Links(settings.server.public_url)
    auditor = Auditor(
        audit_file(settings, layout, now=around.now, blocking=around.auditing).write,
        includes_pulls=settings.log.audit_pulls,
    )
    access = _Access(settings, layout, records, around)
    health = Health(
        checks={
            "disk": around.gate.ready,
            "database": records.check,
            "storage": blobs.check,
            "space": uploads.check_room,
        }
    )
    endpoints = Endpoints(
        health=health,
        exposition=around.exposition,
        token=TokenService(
            issuer=access.issuer,
            logins=access.callers,
            keys=access.keys,
            guard=access.guard,
            now=around.now,
        ),
        base=Base(),
        blobs=Blobs(pull=pull, remove=remove, new_boundary=around.new_id),
        uploads=UploadSessions(uploads=uploads, push=push, links=links),
        manifests=Manifests(pull=pull, push=push, remove=remove, links=links),
        tags=Tags(browse=browse, links=links),
        referrers=Referrers(browse=browse, links=links),
        catalog=Catalog(browse=browse, links=links),
        extensions=Extensions(),
        search=SearchIndex(search=Search(records=records)),
    )
    app = registry_app(
        registry_routes(endpoints),
        guard=access.guard,
        origins=access.origins,
        auditor=auditor,
        # A file of users changes without the database noticing.
        recent=None if access.user_file else RecentAnswers(version=records.version, now=around.now),
    )
    collect = Collect(
        records=records,
        trash=FileTrash(layout=layout, blocking=around.storage, now=around.now, disk=disk),
        monotonic_seconds=around.clock.seconds,
    )
    quarantine = FileTrash(
        layout=layout, blocking=around.storage, now=around.now, disk=disk, directory=layout.quarantine
    )
    scrub = Scrub(
        records=records,
        blobs=blobs,
        verify=Verify(records=records, blobs=blobs, quarantine=quarantine, blocking=around.storage),
        pace=Pace(clock=around.clock, rate_bytes=settings.scrub.rate_bytes),
        clock=around.clock,
        suspects=suspects,
        expects_layers=settings.manifests.missing_layers != "allow",
        is_trusted=lambda: around.gate.is_open,
    )
    return Registry(
        resource=RegistryResource(app),
        sweep=Sweep(records=records, staging=uploads.staging, now=around.now),
        collect=collect,
        scrub=scrub,
        clock=clock,
        origins=access.origins,
        user_file=access.user_file,
        health=health,
    )


class _Access:
    """Everything that knows who calls and what they may."""

    def __init__(
        self, settings: Settings, layout: RootLayout, records: Records, around: Surroundings
    ) -> None:
        grants = tuple(Grant.parse(spec) for spec in settings.access.anonymous_grants)
        anonymous = anonymous_principal(settings.access.anonymous, grants)
        self.keys = KeyRing(directory=layout.keys, now=around.now, retired_seconds=RETIRED_SECONDS)
        service = f"dockreg-{around.instance_id}"
        self.issuer = TokenIssuer(keys=self.keys, service=service, now=around.now, new_id=around.new_id)
        self.user_file = _user_file(settings, around)
        passwords = Authenticator(
            accounts=records
            if self.user_file is None
            else MergedAccounts(accounts=records, file=self.user_file),
            blocking=around.passwords,
            clock=around.clock,
            secret=around.secret,
            anonymous=anonymous,
            throttle=around.throttle,
            verified=around.verified,
        )
        self.callers = Callers(
            passwords=passwords,
            stored=StoredTokens(tokens=records, accounts=records, now=around.now),
            issuer=self.issuer,
            anonymous=anonymous,
            new_id=around.new_id,
            random_bytes=around.random_bytes,
        )
        self.guard = Guard(
            authenticator=self.callers,
            anonymous=anonymous,
            challenge=settings.access.challenge,
            service=service,
            require_tls=settings.access.require_tls,
            counts=around.counts,
            # Whether a file has changed cannot be told at once.
            recent=None
            if self.user_file
            else RecentCallers(generation=records.generation_at_once, now=around.now, secret=around.secret),
        )
        self.origins = Origins(
            public_url=settings.server.public_url, trusted_proxies=settings.server.trusted_proxies
        )


def _user_file(settings: Settings, around: Surroundings) -> UserFile | None:
    if not settings.access.htpasswd:
        return None
    return UserFile(
        os.path.abspath(settings.access.htpasswd),
        grants=settings.access.htpasswd_grants,
        # Not with the passwords: a file that has changed must not wait behind bcrypt.
        blocking=around.parsing,
        clock=around.clock,
        now=around.now,
    )


def collection_rules(settings: Settings) -> CollectionRules:
    """Return how long content stays that nothing needs."""
    return CollectionRules(
        grace_seconds=settings.gc.grace_seconds,
        trash_seconds=settings.gc.trash_seconds,
        untagged_after_seconds=settings.gc.untagged_after_seconds,
    )


async def _is_spent(around: Surroundings) -> bool:
    """Tell whether the ballast was given up and cannot be made again; asked before every upload."""
    return around.ballast.is_spent and not await around.storage.run(around.ballast.fill)


def _manifest_rules(settings: Settings) -> ManifestRules:
    return ManifestRules(
        limit_bytes=settings.manifests.limit_bytes,
        allow_missing_layers=settings.manifests.missing_layers == "allow",
        allow_missing_children=settings.manifests.missing_children == "allow",
    )
