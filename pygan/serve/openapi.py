"""The description of a server, OpenAPI 3.1: each model's own routes, with what it can be asked and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pygan.serve.answers import MEDIA_TYPES
from pygan.serve.intake import PICTURE_TYPES
from pygan.serve.limits import Settings
from pygan.serve.models import Model
from pygan.version import __version__

_BINARY = {"type": "string", "format": "binary"}
_WHY = {
    400: "The request is not what its headers say",
    401: "The key is missing or wrong",
    403: "The request comes from another site",
    408: "The request did not arrive in time",
    411: "The request has no body",
    413: "The body is too large",
    415: "The body is of another media type, or packed",
    421: "The server is not known by that name",
    422: "The picture, or what is asked of it, cannot be used",
    429: "The queue is full",
    500: "The server failed",
    503: "The server is shutting down, or has too many connections",
    504: "It took too long",
}
_ALWAYS = (400, 408, 421, 500, 503)


def describe(models: Mapping[str, Model], settings: Settings) -> dict[str, Any]:
    """The description as plain values. A path for each model, as each has options of its own."""
    paths: dict[str, Any] = {
        "/": _page(settings),
        "/health": _get("health", "Is it there?", _health(), settings, key=False),
        "/metrics": _get("metrics", "Counters, for Prometheus", {"200": _text("Counters", "text/plain")}, settings),
        "/openapi.json": _get(
            "openapi", "This description", {"200": _json("OpenAPI 3.1", {"type": "object"})}, settings
        ),
        "/v1/models": _get(
            "models", "The networks", {"200": _json("The networks and the limits", _ref("Models"))}, settings
        ),
        "/login": {"post": _login(settings)},
    }
    for name, model in models.items():
        if model.translates:
            paths[f"/v1/translate/{name}"] = {"post": _translate(name, model, settings)}
            paths[f"/v1/translate/{name}/batch"] = {"post": _batch(name, model, settings)}
        if model.generates:
            paths[f"/v1/generate/{name}"] = {"post": _generate(name, model, settings)}
    description: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "pygan serve", "version": __version__, "description": "Trained networks over HTTP."},
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }
    if settings.api_key:
        description["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        description["security"] = [{"bearer": []}, {"header": []}]
    return description


def _translate(name: str, model: Model, settings: Settings) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": _BINARY} for kind in PICTURE_TYPES}
    content["multipart/form-data"] = _form({"type": "string", "format": "binary"})
    return _post(
        f"translate {name}",
        "A picture through the network: the answer is a picture of its size",
        content,
        {"200": _pictures("The result")},
        settings,
        parameters=_asked(model),
    )


def _batch(name: str, model: Model, settings: Settings) -> dict[str, Any]:
    most = min(settings.most_pictures, settings.queue)
    many = {"type": "array", "items": _BINARY, "minItems": 1, "maxItems": most}
    return _post(
        f"translate many {name}",
        "Pictures through the network; one that cannot be used does not stop the others",
        {"multipart/form-data": _form(many)},
        {"200": _json("The results, in order", _ref("Results"))},
        settings,
        parameters=_asked(model),
    )


def _generate(name: str, model: Model, settings: Settings) -> dict[str, Any]:
    needs_text = "text" in model.card.asks
    properties: dict[str, Any] = {
        "n": {"type": "integer", "minimum": 1, "maximum": min(settings.most_pictures, settings.queue), "default": 1},
        "seed": {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1},
    }
    if needs_text:
        properties["text"] = {"type": "string", "minLength": 1, "maxLength": 1000, "pattern": "\\S"}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    schema |= {"required": ["text"]} if needs_text else {}
    one = _pictures("The picture, for n = 1; else the pictures as JSON")
    one["content"]["application/json"] = {"schema": _ref("Results")}
    return _post(
        f"generate {name}",
        "Pictures from noise" + (" and a sentence" if needs_text else ""),
        {"application/json": {"schema": schema}},
        {"200": one},
        settings,
        parameters=[_format()],
    )


def _asked(model: Model) -> list[dict[str, Any]]:
    """The query of a translation."""
    found = []
    for name, known in model.card.options.items():
        schema: dict[str, Any] = {"type": "string", "enum": list(known)}
        one: dict[str, Any] = {"name": name, "in": "query", "required": name == "to", "schema": schema}
        if name == "to":  # a list with commas between
            labels = {"type": "array", "items": schema, "minItems": 1, "uniqueItems": True}
            one |= {"schema": labels, "style": "form", "explode": False}
        found.append(one)
    seed = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
    what = "Of dropout and noise, where the network draws any"
    return [*found, {"name": "seed", "in": "query", "description": what, "schema": seed}, _format()]


def _format() -> dict[str, Any]:
    return {"name": "format", "in": "query", "schema": {"type": "string", "enum": list(MEDIA_TYPES), "default": "png"}}


def _form(image: dict[str, Any]) -> dict[str, Any]:
    properties = {"image": image}
    schema = {"type": "object", "properties": properties, "required": ["image"], "additionalProperties": False}
    return {"schema": schema, "encoding": {"image": {"contentType": ", ".join(PICTURE_TYPES)}}}


def _post(
    name: str, summary: str, content: dict[str, Any], answers: dict[str, Any], settings: Settings, **more: Any
) -> dict[str, Any]:
    statuses = [*_ALWAYS, 403, 411, 413, 415, 422, 429, 504, *([401] if settings.api_key else [])]
    body = {"required": True, "content": content}
    described = {"operationId": name.replace(" ", "_"), "summary": summary, "requestBody": body, **more}
    return described | {"responses": _errors(statuses) | answers}


def _get(name: str, summary: str, answers: dict[str, Any], settings: Settings, *, key: bool = True) -> dict[str, Any]:
    statuses = [*_ALWAYS, *([401] if settings.api_key and key else [])]
    described: dict[str, Any] = {"summary": summary, "responses": _errors(statuses) | answers}
    described |= {} if key else {"security": []}
    without = {status: _without_body(answer) for status, answer in described["responses"].items()}
    return {
        "get": {"operationId": name, **described},
        "head": {"operationId": f"{name}_head", **described, "responses": without},
    }


def _without_body(answer: dict[str, Any]) -> dict[str, Any]:
    return {"description": answer["description"]}


def _page(settings: Settings) -> dict[str, Any]:
    described = _get("page", "The page", {"200": _text("The page", "text/html")}, settings)
    if settings.api_key:
        described["get"]["responses"]["401"] = _text("A form that asks for the key", "text/html")
    return described


def _login(settings: Settings) -> dict[str, Any]:
    key = {"type": "string", "minLength": 1}
    schema = {"type": "object", "properties": {"key": key}, "required": ["key"]}
    answers: dict[str, Any] = {"303": {"description": "To the page, with a cookie that stands for the key"}}
    statuses = [*_ALWAYS, 403, 411, 413, 415, 422, 429]
    if settings.api_key:
        answers["401"] = _text("That is not the key", "text/html")
    return {
        "operationId": "login",
        "summary": "Give the key once, for the page",
        "security": [],
        "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": schema}}},
        "responses": _errors(statuses) | answers,
    }


def _errors(statuses: list[int]) -> dict[str, Any]:
    answers = {}
    for status in sorted(statuses):
        answers[str(status)] = _json(_WHY[status], _ref("Error"))
        if status == 429:
            seconds = {"type": "integer", "minimum": 1}
            answers["429"]["headers"] = {"Retry-After": {"description": "Seconds", "required": True, "schema": seconds}}
    return answers


def _health() -> dict[str, Any]:
    not_well = {"anyOf": [_ref("Health"), _ref("Error")]}
    return {"200": _json("Ready", _ref("Health")), "503": _json("Shutting down, or too many connections", not_well)}


def _pictures(what: str) -> dict[str, Any]:
    return {"description": what, "content": {kind: {"schema": _BINARY} for kind in MEDIA_TYPES.values()}}


def _text(what: str, kind: str) -> dict[str, Any]:
    return {"description": what, "content": {kind: {"schema": {"type": "string"}}}}


def _json(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _closed(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_NAMES = {"type": "array", "items": _TEXT}
_PAIR = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
_COLOUR = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}, "minItems": 3, "maxItems": 3}
_MODEL = _closed(
    {
        "name": _TEXT,
        "gan": _TEXT,
        "acts": {"type": "array", "items": {"enum": ["translate", "generate"]}},
        "channels": {"type": "object", "additionalProperties": _PAIR},
        "options": {"type": "object", "additionalProperties": _NAMES},
        "prepare": _TEXT,
        "shows": _TEXT,
        "multiple": _COUNT,
        "least": _COUNT,
        "images_seen": _COUNT,
        "chance": {"type": "boolean"},
        "needs_text": {"type": "boolean"},
        "size": {**_COUNT, "description": "Height and width that it was trained on, in pixels; 0: not known"},
        "palette": {"type": "array", "items": _COLOUR, "description": "Colours of the classes 1..n of a label picture"},
    },
    "palette",
)
_RESULT = _closed({"name": _TEXT, "image": {"type": "string", "contentEncoding": "base64"}, "media_type": _TEXT})
_SCHEMAS: dict[str, Any] = {
    "Error": _closed({"error": {"type": "string", "minLength": 1}}),
    "Health": _closed({"status": {"enum": ["ready", "draining"]}}),
    "Models": _closed(
        {
            "models": {"type": "array", "items": _MODEL},
            "limits": _closed({"bytes": _COUNT, "pixels": _COUNT, "pictures": _COUNT}),
        }
    ),
    "Results": _closed(
        {"results": {"type": "array", "items": {"anyOf": [_RESULT, _closed({"name": _TEXT, "error": _TEXT})]}}}
    ),
}
