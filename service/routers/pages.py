"""`/` and `/docs`: two pages for people, complete in themselves, since many networks are closed."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from service.pages import docs_page, landing_page

router = APIRouter(include_in_schema=False)


@router.get("/")
async def landing(request: Request) -> Response:
    """Where to go from here."""
    return HTMLResponse(landing_page(str(request.base_url).rstrip("/")))


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The OpenAPI document, readable."""
    return HTMLResponse(docs_page(request.app.openapi()))
