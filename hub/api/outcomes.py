"""Routes of projects: what they are, what they changed, and the bundle that proves it."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import FileResponse, Response

from hub.api import catalogue, models
from hub.api.access import Reading, Reporting
from hub.api.evaluation import Evaluations
from hub.api.reports import Job, JobState, pdf_of
from hub.api.state import ReportsOf, ServicesOf

router = APIRouter(prefix="/api/v1/projects", tags=["projects"])


@router.get("", summary="The projects that you may see")
def list_projects(who: Reading, services: ServicesOf) -> list[models.ProjectSummary]:
    return catalogue.projects(services, who)


@router.get("/{project_id}", summary="One project")
def one_project(project_id: str, who: Reading, services: ServicesOf) -> models.Project:
    return catalogue.project(services, who, project_id)


@router.get("/{project_id}/outcome", summary="Before and after, and the verdict by the registered plan")
def project_outcome(project_id: str, who: Reading, services: ServicesOf, request: Request) -> models.ProjectOutcome:
    project = catalogue.project(services, who, project_id)
    evaluations = request.app.state.evaluations
    assert isinstance(evaluations, Evaluations)
    return evaluations.get(services, project)


@router.post("/{project_id}/report", status_code=202, summary="Have the outcome bundle made")
def make_report(project_id: str, who: Reporting, services: ServicesOf, reports: ReportsOf) -> models.ReportJob:
    """Gives the job at once; ask GET on the same address until its state is ready or failed."""
    catalogue.project(services, who, project_id)
    return _job(reports.start(project_id))


@router.get("/{project_id}/report", summary="How far the bundle is")
def report_state(project_id: str, who: Reading, services: ServicesOf, reports: ReportsOf) -> models.ReportJob:
    catalogue.project(services, who, project_id)
    job = reports.job(project_id)
    if job is None:  # none since the hub started
        return models.ReportJob(state="none", project_id=project_id, log_size=0, started_ms=0)
    return _job(job)


@router.get("/{project_id}/report/bundle.zip", summary="The bundle", response_class=FileResponse)
def report_bundle(project_id: str, who: Reading, services: ServicesOf, reports: ReportsOf) -> Response:
    catalogue.project(services, who, project_id)
    job, path = _made(reports.job(project_id))
    return FileResponse(path, media_type="application/zip", filename=f"{job.project_id}-{job.log_size}.zip")


@router.get("/{project_id}/report/report.pdf", summary="The bundle's PDF", response_class=Response)
def report_pdf(project_id: str, who: Reading, services: ServicesOf, reports: ReportsOf) -> Response:
    catalogue.project(services, who, project_id)
    job, path = _made(reports.job(project_id))
    content = pdf_of(path)
    if content is None:
        raise HTTPException(404, "this bundle holds no PDF")
    name = f"{job.project_id}-{job.log_size}.pdf"
    return Response(
        content, media_type="application/pdf", headers={"Content-Disposition": f'inline; filename="{name}"'}
    )


def _made(job: Job | None) -> tuple[Job, Path]:
    if job is None or job.bundle is None or job.state is not JobState.READY or not job.bundle.is_file():
        raise HTTPException(404, "no report is ready: POST to …/report makes one")
    return job, job.bundle


def _job(job: Job) -> models.ReportJob:
    base = f"/api/v1/projects/{job.project_id}/report"
    ready = job.state is JobState.READY
    return models.ReportJob(
        state=job.state.value,
        project_id=job.project_id,
        log_size=job.log_size,
        started_ms=job.started_ms,
        words=job.words,
        bundle=f"{base}/bundle.zip" if ready else None,
        pdf=f"{base}/report.pdf" if ready else None,
        sha256=job.sha256 if ready else None,
    )
