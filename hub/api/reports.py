"""Outcome bundles under way and made: one worker, one bundle a project at a time.

Decides that a bundle is made once for a size of the log and then only handed out, and that the names of files are
made here and never by a caller. What is in a bundle is decided in `hub.report`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from hub.services import Services
from protocols.errors import LinetallyError

PDF_NAME: Final = "report.pdf"
KEPT: Final = 256

_log = logging.getLogger(__name__)


class JobState(StrEnum):
    MAKING = "making"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """A bundle of one project, as of `log_size` records. `words`: why it failed, for a person."""

    project_id: str
    log_size: int
    state: JobState
    started_ms: int
    words: str = ""
    bundle: Path | None = None
    sha256: str = ""


class Reports:
    """Thread-safe. One worker thread: a report is CPU work and must not starve the pages."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="report")

    def job(self, project_id: str) -> Job | None:
        with self._lock:
            return self._jobs.get(project_id)

    def start(self, project_id: str) -> Job:
        """The job of a project: the one under way, the one made at this size of the log, or a new one."""
        size = self._services.log.size
        with self._lock:
            job = self._jobs.get(project_id)
            if job is not None and (
                job.state is JobState.MAKING or (job.state is JobState.READY and job.log_size == size)
            ):
                return job
            if len(self._jobs) >= KEPT:
                done = next((k for k, j in self._jobs.items() if j.state is not JobState.MAKING), None)
                if done is not None:
                    del self._jobs[done]
            job = Job(project_id, size, JobState.MAKING, self._services.now_ms())
            self._jobs[project_id] = job
        self._worker.submit(self._make, job)
        return job

    def _make(self, job: Job) -> None:
        try:
            path = self._services.write_report(job.project_id)
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            made = replace(job, state=JobState.READY, bundle=path, sha256=digest.hexdigest())
        except LinetallyError as error:
            made = replace(job, state=JobState.FAILED, words=str(error))
        except BaseException:
            # The task's boundary: without this the page would wait for ever. The future keeps and re-raises it.
            _log.exception("the report of project %s could not be made", job.project_id)
            with self._lock:
                self._jobs[job.project_id] = replace(
                    job, state=JobState.FAILED, words="an error inside the hub; its log says which"
                )
            raise
        with self._lock:
            self._jobs[job.project_id] = made

    def close(self) -> None:
        """Waits for the report under way, drops those that have not begun."""
        self._worker.shutdown(wait=True, cancel_futures=True)


def pdf_of(bundle: Path) -> bytes | None:
    """The PDF within a bundle; None when it holds none."""
    with zipfile.ZipFile(bundle) as archive:
        try:
            return archive.read(PDF_NAME)
        except KeyError:
            return None
