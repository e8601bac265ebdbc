"""The routes of a server, as an ASGI application."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import mimetypes
import re
import time
from collections.abc import AsyncIterator, Mapping
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pygan import use
from pygan.errors import UserError, say
from pygan.serve import intake, metrics, openapi
from pygan.serve.answers import CSP, HEADERS, MEDIA_TYPES, Refused, as_json
from pygan.serve.guard import Guard
from pygan.serve.house import Asked, House
from pygan.serve.limits import Settings
from pygan.serve.models import Model, check

NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FORM = "application/x-www-form-urlencoded"
_OPEN = ("/", "/login", "/health")  # these look at the key themselves, or need none


def create(networks: Mapping[str, use.Network], settings: Settings | None = None) -> Starlette:
    """The application that serves networks under their names. `app.state.house` is what its requests share.

    Errors: UserError for a name that no address can have, a network of which nothing can be asked.
    """
    settings = settings or Settings()
    for name in networks:
        if not NAME.fullmatch(name):
            raise UserError(f"{name!r} cannot be a model's name: letters, digits, . _ and - only, 64 at most")
    held = {name: Model(name, network) for name, network in networks.items()}
    check(held)
    house = House(held, settings)
    routes = _Routes(house, Guard(settings), openapi.describe(held, settings))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        house.close()

    app = Starlette(
        routes=routes.table(),
        middleware=[Middleware(_Gate, routes=routes)],
        exception_handlers={HTTPException: _no_route},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.house = house
    return app


class _Routes:
    """Each takes a request, and gives an answer or raises Refused."""

    def __init__(self, house: House, guard: Guard, description: dict[str, Any]) -> None:
        self.house, self.guard, self._description = house, guard, description
        self._page = _files()
        self._form = self._page.pop("login.html")[0].decode()  # for who has no key: it asks for nothing else
        style = self._form.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._form_csp = CSP.replace("style-src 'self'", f"style-src 'sha256-{digest}'")

    def table(self) -> list[Route]:
        one, many = "/v1/translate/{model}", "/v1/translate/{model}/batch"
        return [
            Route("/", self.page),
            Route("/static/{file}", self.static),
            Route("/login", self.login, methods=["POST"]),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
            Route("/v1/models", self.models),
            Route(one, self.translate, methods=["POST"]),
            Route(many, self.translate_batch, methods=["POST"]),
            Route("/v1/generate/{model}", self.generate, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        try:
            self.guard.check_key(request.headers)
        except Refused as refused:
            return self._login_page("", refused.headers)
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request.path_params["file"])

    async def login(self, request: Request) -> Response:
        if intake.media_type(request.headers) != _FORM:
            raise Refused(415, f"the form must be sent as {_FORM}")
        body = await self._body(request, intake.MOST_JSON)
        with body:
            try:
                fields = parse_qsl(body.data.decode("ascii"), keep_blank_values=True)
            except ValueError:
                raise Refused(400, f"the body is not {_FORM}") from None
        keys = [value for name, value in fields if name == "key"]
        if len(keys) != 1 or not keys[0]:
            raise Refused(422, "the form needs the field key, once, with something in it")
        if self.house.settings.api_key and not self.guard.is_key(keys[0]):
            self.house.metrics.rejected.labels("key").inc()
            return self._login_page("That is not the key.", {"WWW-Authenticate": 'Bearer realm="pygan"'})
        headers = {"Location": "/"}
        if self.house.settings.api_key:
            headers["Set-Cookie"] = self.guard.set_cookie(request.headers)
        return Response(status_code=303, headers=headers)

    async def health(self, request: Request) -> Response:
        draining = self.house.batcher.draining
        return as_json({"status": "draining" if draining else "ready"}, 503 if draining else 200)

    async def metrics(self, request: Request) -> Response:
        return Response(self.house.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        return as_json(self._description)

    async def models(self, request: Request) -> Response:
        settings = self.house.settings
        limits = {"bytes": settings.most_bytes, "pixels": settings.most_pixels, "pictures": settings.most_pictures}
        return as_json({"models": [model.plain() for model in self.house.models.values()], "limits": limits})

    async def translate(self, request: Request) -> Response:
        asked = self._asked(request)
        kind = intake.media_type(request.headers)
        if kind not in (*intake.PICTURE_TYPES, "multipart/form-data"):
            raise Refused(415, f"Content-Type must be multipart/form-data or one of {', '.join(intake.PICTURE_TYPES)}")
        self.house.room()
        with await self._body(request, self.house.settings.most_bytes) as body:
            if kind == "multipart/form-data":
                parts = await self.house.parts(request.headers["content-type"], body.data, 1)
            else:
                parts = [intake.Part("image", None, body.data)]
            data = await self.house.timed(self.house.translated(asked, parts[0]), request.receive)
        return Response(data, media_type=MEDIA_TYPES[asked.kind])

    async def translate_batch(self, request: Request) -> Response:
        asked = self._asked(request)
        if intake.media_type(request.headers) != "multipart/form-data":
            raise Refused(415, "Content-Type must be multipart/form-data")
        self.house.room()
        with await self._body(request, self.house.settings.most_bytes) as body:
            most = min(self.house.settings.most_pictures, self.house.settings.queue)
            parts = await self.house.parts(request.headers["content-type"], body.data, most)
            results = await self.house.timed(self.house.all_translated(asked, parts), request.receive)
        return as_json({"results": results})

    async def generate(self, request: Request) -> Response:
        model = self._model(request, "generate")
        values = intake.query(request.query_params.multi_items(), ("format",))
        kind = intake.choice("format", values.get("format", "png"), tuple(MEDIA_TYPES))
        if intake.media_type(request.headers) != "application/json":
            raise Refused(415, "Content-Type must be application/json")
        self.house.room()
        with await self._body(request, intake.MOST_JSON) as body:
            most = min(self.house.settings.most_pictures, self.house.settings.queue)
            n, seed, text = intake.asked_of_noise(bytes(body.data), most=most, texts="text" in model.card.asks)
            asked = Asked(model, {}, self.house.settings.seed if seed is None else seed, kind)
            files = await self.house.timed(self.house.generated(asked, n, text), request.receive)
        if n == 1:
            return Response(files[0], media_type=MEDIA_TYPES[kind])
        results = [
            {"name": f"{k + 1}", "image": base64.b64encode(data).decode(), "media_type": MEDIA_TYPES[kind]}
            for k, data in enumerate(files)
        ]
        return as_json({"results": results})

    def _model(self, request: Request, act: str) -> Model:
        """Errors: Refused."""
        model = self.house.models.get(request.path_params["model"])
        if model is None or act not in model.card.acts:
            known = [name for name, other in self.house.models.items() if act in other.card.acts]
            raise Refused(404, f"there is no such model here; there are {', '.join(known) or 'none'}")
        return model

    def _asked(self, request: Request) -> Asked:
        """Errors: Refused."""
        model = self._model(request, "translate")
        options = model.card.options
        values = intake.query(request.query_params.multi_items(), (*options, "seed", "format"))
        kind = intake.choice("format", values.pop("format", "png"), tuple(MEDIA_TYPES))
        seed = intake.seed(values.pop("seed")) if "seed" in values else self.house.settings.seed
        for name, value in values.items():
            for one in value.split(",") if name == "to" else [value]:  # labels may be several
                intake.choice(name, one, options[name])
        if "to" in options and "to" not in values:
            raise Refused(422, f"to is needed: labels of the result, of {', '.join(options['to'])}")
        return Asked(model, values, seed, kind)

    async def _body(self, request: Request, most: int) -> intake.Held:
        return await self.house.bodies.read(request.headers, request.receive, most, self.house.settings.timeout_s)

    def _login_page(self, said: str, headers: Mapping[str, str]) -> Response:
        text = self._form.replace("{said}", said)
        return Response(text.encode(), 401, {**headers, "Content-Security-Policy": self._form_csp}, "text/html")

    def _file(self, name: str) -> Response:
        if name not in self._page:
            raise Refused(404, "there is no such page")
        data, kind = self._page[name]
        return Response(data, headers={"Content-Type": kind})


class _Gate:
    """Round every request: who asks, how it ends, how long it took. Nothing gets past it: no traceback, no silence."""

    def __init__(self, app: Any, routes: _Routes) -> None:
        self._app, self._guard, self._house = app, routes.guard, routes.house

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.monotonic(), 0
        count = self._house.metrics

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name for name, _ in message["headers"]}
                more = HEADERS | ({"Connection": "close"} if self._house.batcher.draining else {})
                added = [(k.lower().encode(), v.encode()) for k, v in more.items()]
                message["headers"] = [*message["headers"], *((k, v) for k, v in added if k not in there)]
            await send(message)

        request = Request(scope)
        try:
            try:
                self._guard.check_name(request.headers.get("host"), scope["http_version"])
                self._guard.check_site(request.method, request.headers)
                if scope["path"] not in _OPEN:
                    self._guard.check_key(request.headers)
                await self._app(scope, receive, counted)
            except Refused as refused:
                count.rejected.labels(refused.why).inc()
                if not status:
                    await refused.response()(scope, receive, counted)
            except intake.Left:
                count.left.inc()
                status = 499
                await Response(status_code=499)(scope, receive, counted)
            except asyncio.CancelledError:  # the time for finishing, after a signal, is over
                if not status:
                    over = Refused(503, "the server was shut down before the answer was there", close=True)
                    await over.response()(scope, receive, counted)
            except Exception as error:
                line = " ".join(str(error).split())
                say(f"a request failed ({type(error).__name__}: {line[:300]}); serving goes on")
                if not status:
                    await as_json({"error": "the server failed on this request"}, 500)(scope, receive, counted)
        finally:
            endpoint = scope.get("endpoint")
            route = getattr(endpoint, "__name__", "other") if endpoint else "other"
            count.requests.labels(route, str(status)).inc()
            count.seconds.labels(route).observe(time.monotonic() - began)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    line = "there is no such route" if error.status_code == 404 else "this route is not for that method"
    return as_json({"error": line}, error.status_code, dict(error.headers or {}))


def _files() -> dict[str, tuple[bytes, str]]:
    """The page's files, in memory: {name: (bytes, media type)}. No request touches the disk."""
    found = {}
    for file in resources.files("pygan.serve").joinpath("page").iterdir():
        if file.is_file() and file.name.endswith((".html", ".js", ".css", ".svg", ".png")):
            kind = "text/javascript" if file.name.endswith(".js") else mimetypes.guess_type(file.name)[0]
            text = str(kind).startswith("text/")
            found[file.name] = (file.read_bytes(), f"{kind}; charset=utf-8" if text else str(kind))
    return found
