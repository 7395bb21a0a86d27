"""The site's calendar: what is done at a time of the day. Every job goes over rows, so that two nodes may both do it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.exc import SQLAlchemyError

from bridge.engine.site import Site
from bridge.ledger import retention
from bridge.ledger.clock import SECOND

log = logging.getLogger(__name__)

RETENTION = "30 3 * * *"  # cron, in the site's zone: when nobody writes


class Calendar:
    """Starts after the doors: the library it needs may be loaded while they answer already."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._scheduler: Any = None
        self._thread = threading.Thread(target=self._begin, name="calendar", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.join(5)
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)

    def _begin(self) -> None:
        from apscheduler.schedulers.background import BackgroundScheduler  # late: most of its cost is the import
        from apscheduler.triggers.cron import CronTrigger

        zone = ZoneInfo(self._site.settings.site.zone)
        scheduler = BackgroundScheduler(timezone=zone)
        trigger = CronTrigger.from_crontab(RETENTION, timezone=zone)
        scheduler.add_job(
            self._safely, trigger, args=[sweep_bodies], id="retention", coalesce=True, misfire_grace_time=3600
        )
        scheduler.start()
        self._scheduler = scheduler

    def _safely(self, job: Callable[[Site], object]) -> None:
        try:
            job(self._site)
        except SQLAlchemyError as error:
            log.warning("a job of the calendar met a database error", extra={"error": type(error).__name__})


def sweep_bodies(site: Site) -> dict[str, int]:
    """Empty the encrypted columns that are older than `retention.bodies`."""
    age = int(site.settings.retention.bodies.total_seconds() * SECOND)
    counts = dict(retention.sweep(site.store, site.ids, age))
    log.info("retention", extra={"events": sum(counts.values())})
    return counts
