#!/usr/bin/env python3
"""Checks recorded Bot API traffic against aiogram's models, which are generated from Telegram's own description.

    aiogram_check.py traffic.jsonl     (PyPI: aiogram 3.31; `-` reads standard input)

Each line is an object: {"method": …, "params": …, "reply": …} for a call of the bot, or {"update": …} for an
update that it was given. A call must have every field that its method needs, none that it does not have, and all
of the right type; a good reply and an update must be what aiogram can read. Prints one line for each fault;
exit code 0 when there is none, 1 when there is one, 2 when there was nothing to check.
"""

import json
import sys
from typing import Any, Iterator

from aiogram import methods, types
from pydantic import BaseModel, TypeAdapter, ValidationError


def unknown_fields(given: Any, model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Names fields at the top of a call that its method does not have."""
    aliases = {field.alias or name for name, field in model.model_fields.items()}
    for name in given:
        if name not in aliases:
            yield f"unknown field {path}{name}"


def strict(value: Any, path: str) -> Iterator[str]:
    """Finds fields of nested objects that no model knows. aiogram keeps them as extras."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"unknown field {path}{name} of {type(value).__name__}"
        for name in value.model_fields_set:
            yield from strict(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from strict(item, f"{path}{number}.")


def explain(error: ValidationError) -> Iterator[str]:
    """One line for each fault, without the values."""
    for fault in error.errors(include_input=False, include_url=False):
        yield f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


def check_call(name: str, params: Any, reply: Any) -> Iterator[str]:
    model = getattr(methods, name[:1].upper() + name[1:], None)
    if model is None:
        yield "no such method"
        return
    params = dict(params or {})
    if "document" in params:
        # A file that is uploaded; what was recorded is its name.
        params["document"] = types.BufferedInputFile(b"", filename=params["document"])
    yield from unknown_fields(params, model)
    try:
        yield from strict(model.model_validate(params), "")
    except ValidationError as error:
        yield from explain(error)
    result = (reply or {}).get("result")
    if (reply or {}).get("ok") and result is not None:
        try:
            answer = TypeAdapter(model.__returning__).validate_python(result)
            yield from (f"reply: {fault}" for fault in strict(answer, ""))
        except ValidationError as error:
            yield from (f"reply: {fault}" for fault in explain(error))


def check_update(update: Any) -> Iterator[str]:
    try:
        yield from strict(types.Update.model_validate(update), "")
    except ValidationError as error:
        yield from explain(error)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    counts: dict[str, int] = {}
    faults = 0
    with open(0 if sys.argv[1] == "-" else sys.argv[1], encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            item = json.loads(line)
            if "update" in item:
                name, found = "update", check_update(item["update"])
            else:
                name, found = item["method"], check_call(item["method"], item["params"], item.get("reply"))
            counts[name] = counts.get(name, 0) + 1
            for fault in found:
                faults += 1
                print(f"line {number}, {name}: {fault}")
    print(json.dumps({"checked": counts, "faults": faults}, sort_keys=True))
    if not counts:
        return 2
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
