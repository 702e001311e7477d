"""The two pages for people, as HTML that needs nothing from elsewhere."""

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import orjson

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 54rem; margin: 3rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { margin-top: 2.6rem; }
h3 { border-top: 1px solid var(--line); padding-top: 1.4rem; margin-top: 2rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 6px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line); }
.verb { display: inline-block; min-width: 4.2rem; font-weight: 700; } summary { cursor: pointer; }
"""

_LANDING = """
<h1>StochCon</h1>
<p>Images go in, short binary codes come out; codes are kept, searched and classified.</p>
<pre>curl -F image=@cat.jpg {url}/encode
curl -F image=@cat.jpg -F 'items=[{{"id": "cat.jpg", "label": "cat"}}]' {url}/items
curl -F image=@other.jpg '{url}/search?k=5'</pre>
<ul>
<li><a href="docs">What each call takes and gives</a> (<a href="openapi.json">OpenAPI</a>)</li>
<li><a href="readyz">Model and provider in use</a></li>
<li><a href="collections">Collections</a></li>
<li><a href="models">Models</a></li>
<li><a href="metrics">Metrics</a></li>
</ul>
"""


def landing_page(url: str) -> str:
    """Where to go from here; `url` is how this service was reached."""
    return _page("StochCon", _LANDING.format(url=escape(url)))


def docs_page(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as one page: each call, then each schema."""
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p><h2>Calls</h2>',
    ]
    for path, operations in document["paths"].items():
        parts += [_operation(verb, path, operation) for verb, operation in operations.items()]
    parts.append("<h2>Schemas</h2>")
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return _page(info["title"], "\n".join(parts))


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>{body}</body></html>"
    )


def _operation(verb: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [f'<h3><span class="verb">{verb.upper()}</span> <code>{escape(path)}</code></h3>']
    parts += [f"<p>{_prose(text)}</p>" for text in operation.get("description", "").split("\n\n")]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = (
            (f"<code>{escape(p['name'])}</code>", _type(p["schema"]), _prose(p.get("description", "")))
            for p in parameters
        )
        parts.append(_table(("parameter", "type", ""), rows))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Takes <code>{escape(media_type)}</code>: {_type(content['schema'])}</p>")
        if "example" in content:
            parts.append(f"<pre>{_json(content['example'])}</pre>")
    answers = (
        (status, _prose(answer["description"]), _answer_type(answer))
        for status, answer in operation["responses"].items()
    )
    parts.append("<details><summary>Answers</summary>" + _table(("status", "", ""), answers) + "</details>")
    return "\n".join(parts)


def _answer_type(answer: Mapping[str, Any]) -> str:
    return ", ".join(
        f"<code>{escape(media_type)}</code> {_type(content.get('schema', {}))}"
        for media_type, content in answer.get("content", {}).items()
    )


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = (
        (
            f"<code>{escape(key)}</code>{'' if key in required else ' (optional)'}",
            _type(field),
            _prose(field.get("description", "")),
        )
        for key, field in schema.get("properties", {}).items()
    )
    text = f"<p>{_prose(schema['description'])}</p>" if "description" in schema else ""
    return f'<h3 id="{escape(name)}">{escape(name)}</h3>{text}' + _table(("field", "type", ""), rows)


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to those that have names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and "properties" in schema:
        fields = (f"<code>{escape(key)}</code> {_type(part)}" for key, part in schema["properties"].items())
        return "object with " + ", ".join(fields)
    words = [str(schema.get("const", schema.get("format", schema.get("type", "any"))))]
    words += [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    if "default" in schema:
        words.append(f"(default {orjson.dumps(schema['default']).decode()})")
    return escape(" ".join(words))


_BOUNDS = {"minimum": "≥", "maximum": "≤", "minItems": "at least", "maxItems": "at most"}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{body}</table>" if body else ""


def _json(value: object) -> str:
    return escape(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _prose(text: str) -> str:
    """Text with `code` in backticks, as descriptions are written."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
