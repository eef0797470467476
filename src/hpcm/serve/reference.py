"""The page at /docs: the operations as the OpenAPI schema tells them, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color: #222; }
h2 { font-size: 1.1em; margin: 2.5em 0 0; border-top: 1px solid #ccc; padding-top: 1em; }
code { font-family: ui-monospace, monospace; } table { border-collapse: collapse; margin: .5em 0; }
td, th { text-align: left; vertical-align: top; padding: .2em 1.2em .2em 0; }
"""
BOUNDS = {"minimum": "from", "exclusiveMinimum": "over", "maximum": "to"}


def page_of(schema: dict[str, Any]) -> str:
    """The page as HTML."""
    told = schema["info"]
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(told['title'])}</title>",
        f"<style>{STYLE}</style><h1>{escape(told['title'])} {escape(told['version'])}</h1>",
        f"<p>{escape(told['description'])} For programs: <a href='openapi.json'>openapi.json</a>.",
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            parts += _operation(path, method, operation)
    return "\n".join([*parts, "</html>\n"])


def _operation(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code> {escape(operation.get('summary', ''))}</h2>"]
    if text := operation.get("description"):
        parts.append(f"<p>{escape(text)}")
    if body := operation.get("requestBody"):
        parts.append(f"<p>Body: {_kinds(body['content'])}")
    if parameters := operation.get("parameters"):
        parts.append(_table([_parameter(each) for each in parameters]))
    answers = operation["responses"].items()
    rows = [(f"<code>{code}</code>", _answer(answer, code == "200")) for code, answer in answers]
    return [*parts, _table(rows)]


def _parameter(told: dict[str, Any]) -> tuple[str, str, str]:
    """Name, values, meaning."""
    options = told["schema"].get("anyOf", [told["schema"]])
    values = [_values(option) for option in options if option.get("type") != "null"]
    default = told["schema"].get("default")
    shown = ", ".join(values) + ("" if default is None else f"; by default {default}")
    return f"<code>{escape(told['name'])}</code>", escape(shown), escape(told.get("description", ""))


def _values(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    bounds = [f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if key in schema]
    return " ".join([schema.get("type", ""), *bounds])


def _answer(told: dict[str, Any], good: bool) -> str:
    return f"{escape(told['description'])}: {_kinds(told['content'])}" if good else escape(told["description"])


def _kinds(content: dict[str, Any]) -> str:
    return ", ".join(f"<code>{escape(kind)}</code>" for kind in content)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows]
    return "\n".join(["<table>", *lines, "</table>"])
