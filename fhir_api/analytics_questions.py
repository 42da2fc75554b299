"""POST /analytics/queries: a question of the whole, answered with counts (package `analytics`).

The caller's token is checked as for every FHIR request; the service decides, controls disclosure and audits.
"""

import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from fhir_api.access_token import TokenVerifier
from fhir_api.operation_outcome import TooLarge, UnsupportedMediaType
from fhir_api.services import AnalyticsRunner

LIMIT_QUESTION_BYTES = 64 * 1024


def analytics_router(runner: AnalyticsRunner, verifier: TokenVerifier) -> APIRouter:
    """The route; JSON is answered unless `Accept: text/csv` asks for CSV."""
    router = APIRouter(tags=["analytics"])

    @router.post("/analytics/queries")
    async def queries(request: Request) -> Response:
        session = await verifier.session(request.headers.get("authorization", "").encode("latin-1"))
        trace = secrets.token_hex(8)
        answer = await runner.answer(await _question(request), session.caller, trace)
        headers = {"cache-control": "no-store", "x-request-id": trace}
        if "text/csv" in request.headers.get("accept", ""):
            return Response(answer.csv(), media_type="text/csv; charset=utf-8", headers=headers)
        return Response(answer.json(), media_type="application/json", headers=headers)

    return router


async def _question(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("A question is application/json.")
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > LIMIT_QUESTION_BYTES:
            raise TooLarge(f"A question is at most {LIMIT_QUESTION_BYTES} bytes.")
    return data
