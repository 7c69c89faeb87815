"""What every route is handed: the hub's services, the live board and the reports under way."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from hub.api.board import Board
from hub.api.reports import Reports
from hub.services import Services


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


def _board(request: Request) -> Board:
    board = request.app.state.board
    assert isinstance(board, Board)
    return board


def _reports(request: Request) -> Reports:
    reports = request.app.state.reports
    assert isinstance(reports, Reports)
    return reports


ServicesOf = Annotated[Services, Depends(_services)]
BoardOf = Annotated[Board, Depends(_board)]
ReportsOf = Annotated[Reports, Depends(_reports)]
