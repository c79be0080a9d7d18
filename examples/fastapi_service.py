"""A FastAPI service that reports which of its pages are used.

    pip install fastapi uvicorn usage-telemetry
    usage-telemetry listen --port 8001                 # a local endpoint that shows what arrives
    OTEL_EXPORTER_JITSU_ENDPOINT=http://127.0.0.1:8001/api/v1/s2s/event \
    OTEL_EXPORTER_JITSU_TOKEN=any uvicorn --app-dir examples fastapi_service:service
"""

from fastapi import FastAPI, HTTPException

from usage_telemetry import Action, Catalog, Count, Telemetry
from usage_telemetry.instrumentation.asgi import UsageMiddleware, current_request

catalog = Catalog(
    [
        Action("startup", "The service was started."),
        Action("list_books", "The list of books was opened.", book_count=Count("Books in it.")),
        Action("get_book", "A book was opened."),
    ]
)
telemetry = Telemetry("bookshelf", "1.0", "service_backend", catalog)
books = {"emma": "Jane Austen", "dracula": "Bram Stoker"}
app = FastAPI()


@app.get("/books")
def list_books() -> list[str]:
    if request := current_request.get():
        request.note("list_books", {"book_count": len(books)})
    return sorted(books)


@app.get("/books/{title}")
def get_book(title: str) -> str:
    if title not in books:
        raise HTTPException(404)
    return books[title]


routes = {("GET", "/books"): "list_books", ("GET", "/books/{title}"): "get_book"}
service = UsageMiddleware(app, telemetry, routes, startup="startup")
