"""A Litestar service that reports which of its pages are used.

    pip install litestar uvicorn usage-telemetry
    usage-telemetry listen --port 8001                 # a local endpoint that shows what arrives
    OTEL_EXPORTER_JITSU_ENDPOINT=http://127.0.0.1:8001/api/v1/s2s/event \
    OTEL_EXPORTER_JITSU_TOKEN=any uvicorn --app-dir examples litestar_service:service
"""

from litestar import Litestar, get
from litestar.exceptions import NotFoundException

from usage_telemetry import Action, Catalog, Telemetry
from usage_telemetry.instrumentation.asgi import UsageMiddleware

catalog = Catalog(
    [
        Action("startup", "The service was started."),
        Action("list_books", "The list of books was opened."),
        Action("get_book", "A book was opened."),
    ]
)
telemetry = Telemetry("bookshelf", "1.0", "service_backend", catalog)
books = {"emma": "Jane Austen", "dracula": "Bram Stoker"}


@get("/books", sync_to_thread=False)
def list_books() -> list[str]:
    return sorted(books)


@get("/books/{title:str}", sync_to_thread=False)
def get_book(title: str) -> str:
    if title not in books:
        raise NotFoundException
    return books[title]


routes = {("GET", "/books"): "list_books", ("GET", "/books/{title}"): "get_book"}
service = UsageMiddleware(Litestar([list_books, get_book]), telemetry, routes, startup="startup")
