"""The server's table of the AWS KMS API beside botocore's model: operations, members, limits, enumerations."""

import json
import pathlib
import subprocess

import pytest

from aws_kms import MODEL

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

KINDS = {
    "string": "text",
    "blob": "blob",
    "integer": "integer",
    "boolean": "boolean",
    "timestamp": "timestamp",
    "list": "list",
    "map": "map",
    "structure": "structure",
}


def rows(shape, path="", required=True):
    """What botocore says of a shape and of all that it is made of, as rows of our table."""
    if shape is None:
        return
    raw = MODEL._shape_resolver._shape_map[shape.name]
    row = {
        "path": path,
        "required": required,
        "kind": "enum" if "enum" in raw else KINDS[shape.type_name],
        "values": sorted(raw.get("enum", [])),
        "sensitive": raw.get("sensitive", False),
    }
    # Enumerations have a range of lengths in some models, which their values keep.
    limits = {} if "enum" in raw else {name: raw[name] for name in ("min", "max", "pattern") if name in raw}
    if path:
        yield row | limits
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            below = f"{path}.{name}" if path else name
            yield from rows(member, below, name in shape.required_members)
    elif shape.type_name == "list":
        yield from rows(shape.member, f"{path}[]")


def ours(fields):
    for field in fields:
        field = {name: value for name, value in field.items() if value is not None}
        yield field | {"values": sorted(field["values"])}


@pytest.fixture(scope="module")
def table():
    """What the server's own table prints, by operation."""
    # Of the whole workspace, as the tests before: of its package alone it would be built anew, with other features.
    build = ["cargo", "build", "--quiet", "--workspace", "--locked", "--offline", "--example", "aws_coverage"]
    subprocess.run(build, cwd=REPOSITORY, check=True)
    printed = subprocess.run([REPOSITORY / "target/debug/examples/aws_coverage"], check=True, capture_output=True).stdout
    return {operation["operation"]: operation for operation in json.loads(printed)}


def test_the_operations_are_the_models(table):
    assert list(table) == list(MODEL.operation_names)


@pytest.mark.parametrize("operation", MODEL.operation_names)
def test_the_members_are_the_models(table, operation):
    model = MODEL.operation_model(operation)
    assert list(ours(table[operation]["input"])) == list(rows(model.input_shape))
    # An answer has more members always than the model promises, and keeps limits that clients do not look at.
    for row, field in zip(rows(model.output_shape), ours(table[operation]["output"]), strict=True):
        for name in ("path", "kind", "values"):
            assert field[name] == row[name], row["path"]
