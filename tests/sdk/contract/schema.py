"""Judges values by the schemas of a Swagger 2.0 document, as far as the Engine API's use them."""

import re

import yaml

TYPES = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}

# What Go writes as null: slices, maps and pointers. The specification seldom says so.
NULLABLE = {"array", "object"}

# Pointers to numbers that Docker writes as null although no version's document says so.
NULL_ALL_THE_SAME = {"MemorySwappiness"}


class Specification:
    """One version's document."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.document = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def reply(self, method, path, status):
        """The schema of a reply; None if the operation or its reply has none."""
        operation = self.document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            return None
        reply = operation["responses"].get(str(status)) or operation["responses"].get(status)
        assert reply is not None, f"{method} {path} does not answer {status}"
        return reply.get("schema")

    def complaints(self, value, schema, strict):
        """What is wrong with a value, each with its place. `strict` objects to members that the schema does not have."""
        found = []
        self._check(value, schema, "", strict, found)
        return found

    def _resolve(self, schema):
        while "$ref" in schema:
            schema = self.document["definitions"][schema["$ref"].rsplit("/", 1)[1]]
        if "allOf" in schema:
            parts = [self._resolve(part) for part in schema["allOf"]]
            if not any("properties" in part for part in parts):
                # One plain type with a description of its own.
                return {**parts[0], "x-nullable": schema.get("x-nullable", parts[0].get("x-nullable"))}
            merged = {"type": "object", "properties": {}, "required": []}
            for part in parts:
                merged["properties"].update(part.get("properties", {}))
                merged["required"] += part.get("required", [])
                if "additionalProperties" in part:
                    merged["additionalProperties"] = part["additionalProperties"]
            merged["properties"].update(schema.get("properties", {}))
            return merged
        return schema

    def _check(self, value, schema, place, strict, found):
        schema = self._resolve(schema)
        kind = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(kind, list):
            # `type: ["array", "null"]`, as some say it.
            if value is None and "null" in kind:
                return
            kind = next(one for one in kind if one != "null")
        if value is None:
            said = kind in NULLABLE or kind is None or schema.get("x-nullable")
            if not said and place.rsplit(".", 1)[-1] not in NULL_ALL_THE_SAME:
                found.append(f"{place}: null, not {kind}")
            return
        if kind is None:
            return
        if not TYPES[kind](value):
            found.append(f"{place}: {value!r:.60} is not {kind}")
            return
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{place}: {value!r} is none of {schema['enum']}")
        if schema.get("format") in ("dateTime", "date-time") and value:
            if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", value):
                found.append(f"{place}: {value!r} is no time")
        if kind == "array" and "items" in schema:
            for index, element in enumerate(value):
                self._check(element, schema["items"], f"{place}[{index}]", strict, found)
        if kind == "object":
            self._check_members(value, schema, place, strict, found)

    def _check_members(self, value, schema, place, strict, found):
        properties = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                found.append(f"{place}.{name}: missing")
        others = schema.get("additionalProperties")
        for name, member in value.items():
            if name in properties:
                self._check(member, properties[name], f"{place}.{name}", strict, found)
            elif isinstance(others, dict):
                self._check(member, others, f"{place}[{name}]", strict, found)
            elif strict and properties and others is not True:
                found.append(f"{place}.{name}: not in the specification")
