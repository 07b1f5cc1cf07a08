#!/usr/bin/env python3
"""Writes registry.json: schemas, and records that other people's serializers make of them.

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install 'confluent-kafka[avro,protobuf,json,schemaregistry]==2.16.1' \
        fastavro==1.13.1 protobuf==7.36.2 grpcio-tools==1.85.1 googleapis-common-protos==1.76.0 \
        cloudevents==2.2.0
    /tmp/venv/bin/python make.py

The bytes are of confluent-kafka's serializers and of the CNCF's CloudEvents SDK. The expected JSON is of
fastavro's json_writer (the Avro specification's "JSON Encoding"), of protobuf's json_format (ProtoJSON)
and of json.dumps. Tests read registry.json only, and so need no Python.
"""

import base64
import datetime
import decimal
import importlib
import importlib.metadata
import io
import json
import pathlib
import sys
import tempfile
import uuid

import cloudevents.core.bindings.kafka as cloudevents_kafka
import fastavro
import google.protobuf
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka.schema_registry import Schema, SchemaReference, header_schema_id_serializer
from confluent_kafka.schema_registry._sync import mock_schema_registry_client as mock
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import json_format
from grpc_tools import protoc

HERE = pathlib.Path(__file__).parent
BY_GUID = {"schema.id.serializer": header_schema_id_serializer}


class Numbered:
    """Makes the mock registry's GUIDs the same in every run."""

    count = 0

    @classmethod
    def uuid4(cls):
        cls.count += 1
        return uuid.uuid5(uuid.NAMESPACE_URL, f"https://example.org/schemas/{cls.count}")


mock.uuid = Numbered
registry = mock.MockSchemaRegistryClient({"url": "mock://"})
proto_texts = {}  # the file's name -> its text, which a registry answers instead of the descriptor
records = []


def add(kind, name, value, expected, headers=(), key="red", text=None, **more):
    records.append(
        {
            "name": name,
            "kind": kind,
            "key": key,
            "value": base64.b64encode(value).decode(),
            "headers": [{"key": k, "value": base64.b64encode(v).decode()} for k, v in headers],
            **({"text": text} if text is not None else {"json": expected}),
            **more,
        }
    )


def register(subject, text, kind, *references):
    """Registers a schema that others refer to; references are (name, subject, version)."""
    registry.register_schema(subject, Schema(text, kind, [SchemaReference(*r) for r in references]))


# Avro


def avro(name, topic, schema, value, references=(), named=None, conf=None, expected=None):
    text = json.dumps(schema)
    headers = []
    serializer = AvroSerializer(
        registry, Schema(text, "AVRO", [SchemaReference(*r) for r in references]), conf=conf
    )
    data = serializer(value, SerializationContext(topic, MessageField.VALUE, headers))
    if expected is None:
        parsed = fastavro.parse_schema(schema, named_schemas=dict(named or {}))
        out = io.StringIO()
        fastavro.json_writer(out, parsed, [value])
        expected = json.loads(out.getvalue())
    add("avro", name, data, expected, headers)


def make_avro():
    order = {
        "type": "record", "name": "Order", "namespace": "com.example.orders",
        "fields": [
            {"name": "owner", "type": "string"},
            {"name": "id", "type": "long"},
            {"name": "count", "type": "int"},
            {"name": "price", "type": "double"},
            {"name": "weight", "type": "float"},
            {"name": "paid", "type": "boolean"},
            {"name": "nothing", "type": "null"},
            {"name": "blob", "type": "bytes"},
            {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
            {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID", "SENT"]}},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "other", "type": ["null", "string"], "default": None},
            {"name": "lines", "type": {"type": "array", "items": {
                "type": "record", "name": "Line",
                "fields": [{"name": "sku", "type": "string"}, {"name": "pieces", "type": "int"}]}}},
            {"name": "labels", "type": {"type": "map", "values": ["null", "long", "string"]}},
        ],
    }
    value = {
        "owner": "red", "id": 9007199254740993, "count": -2, "price": 12.5, "weight": 0.1, "paid": True,
        "nothing": None, "blob": bytes([0, 1, 34, 92, 127, 128, 255]), "hash": b"\xca\xfe\x00\x0a",
        "state": "PAID", "note": "grüße \"quoted\"\n\u2028 \U0001f600 </script>", "other": None,
        "lines": [{"sku": "a-1", "pieces": 1}, {"sku": "b-2", "pieces": 2147483647}],
        "labels": {"rank": 7, "shop": "north", "none": None},
    }
    avro("record of all types", "avro-orders", order, value)
    avro("record of all types, by GUID in a header", "avro-orders", order, value, conf=BY_GUID)
    avro("empty array and map", "avro-orders", order, {**value, "lines": [], "labels": {}, "blob": b""})

    unions = {
        "type": "record", "name": "Unions", "namespace": "com.example",
        "fields": [
            {"name": "record", "type": [
                "null",
                {"type": "record", "name": "Cat", "fields": [{"name": "lives", "type": "int"}]},
                {"type": "record", "name": "Dog", "namespace": "org.other",
                 "fields": [{"name": "barks", "type": "boolean"}]}]},
            {"name": "enum", "type": ["null", {"type": "enum", "name": "Size", "symbols": ["S", "M"]}]},
            {"name": "fixed", "type": ["null", {"type": "fixed", "name": "Two", "size": 2}]},
            {"name": "bytes", "type": ["null", "bytes"]},
            {"name": "boolean", "type": ["null", "boolean"]},
            {"name": "double", "type": ["double", "null"]},
            {"name": "array", "type": ["null", {"type": "array", "items": "int"}]},
            {"name": "map", "type": ["null", {"type": "map", "values": "int"}]},
            {"name": "time", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
            {"name": "days", "type": ["null", {"type": "int", "logicalType": "date"}]},
        ],
    }
    time = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)
    avro("unions name their branch", "avro-unions", unions, {
        "record": ("org.other.Dog", {"barks": True}), "enum": "M", "fixed": b"ab", "bytes": b"\xff\x00",
        "boolean": False, "double": -0.5, "array": [1, 2], "map": {"a": 1}, "time": time,
        "days": datetime.date(2026, 1, 2)})
    avro("unions of null", "avro-unions", unions, dict.fromkeys(f["name"] for f in unions["fields"]))
    avro("union of the schema's top", "avro-top", ["null", "string", {
        "type": "record", "name": "Top", "fields": [{"name": "n", "type": "int"}]}], ("Top", {"n": 3}))
    avro("string of the schema's top", "avro-string", {"type": "string"}, "hello, red")
    avro("array of the schema's top", "avro-array", {"type": "array", "items": "long"}, list(range(300)))

    def logical(kind, name, **more):
        return {"name": name.replace("-", "_"), "type": {"type": kind, "logicalType": name, **more}}

    avro("logical types are as the types that they annotate", "avro-logical", {
        "type": "record", "name": "Logical", "fields": [
            logical("bytes", "decimal", precision=9, scale=2), logical("string", "uuid"),
            logical("int", "date"), logical("int", "time-millis"), logical("long", "time-micros"),
            logical("long", "timestamp-millis"), logical("long", "timestamp-micros"),
            logical("long", "local-timestamp-millis"), logical("long", "of-nobody"),
        ]}, {
            "decimal": decimal.Decimal("-1234.56"), "uuid": uuid.UUID(int=42), "date": datetime.date(1969, 12, 31),
            "time_millis": datetime.time(1, 2, 3, 4000), "time_micros": datetime.time(1, 2, 3, 4),
            "timestamp_millis": time, "timestamp_micros": time,
            "local_timestamp_millis": time.replace(tzinfo=None), "of_nobody": 5})

    version = {"type": "record", "name": "Evolving", "fields": [{"name": "owner", "type": "string"}]}
    avro("first version of a subject", "avro-evolving", version, {"owner": "red"})
    version = {**version, "fields": [{"name": "added", "type": "int", "default": 0}, *version["fields"]]}
    avro("second version of a subject", "avro-evolving", version, {"owner": "red", "added": 1})

    tree = {"type": "record", "name": "Tree", "namespace": "com.example", "fields": [
        {"name": "name", "type": "string"}, {"name": "children", "type": {"type": "array", "items": "Tree"}}]}
    leaves = {"name": "a", "children": [
        {"name": "b", "children": []}, {"name": "c", "children": [{"name": "d", "children": []}]}]}
    avro("recursive schema", "avro-tree", tree, leaves, expected=leaves)  # json_writer cannot write it

    money = {"type": "record", "name": "Money", "namespace": "com.example", "fields": [
        {"name": "currency", "type": "string"}, {"name": "cents", "type": "long"}]}
    item = {"type": "record", "name": "Item", "namespace": "com.example", "fields": [
        {"name": "price", "type": "com.example.Money"}]}
    basket = {"type": "record", "name": "Basket", "namespace": "com.example", "fields": [
        {"name": "items", "type": {"type": "array", "items": "com.example.Item"}},
        {"name": "total", "type": ["null", "com.example.Money"]}]}
    register("money", json.dumps(money), "AVRO")
    register("item", json.dumps(item), "AVRO", ("com.example.Money", "money", 1))
    named = {}
    fastavro.parse_schema(money, named_schemas=named)
    fastavro.parse_schema(item, named_schemas=named)
    avro("references, two deep and to one schema twice", "avro-basket", basket,
         {"items": [{"price": {"currency": "EUR", "cents": 150}}], "total": {"currency": "EUR", "cents": 150}},
         [("com.example.Item", "item", 1), ("com.example.Money", "money", 1)], named)


# Protobuf

PROTOS = {
    "order.proto": """syntax = "proto3";
package com.example;

import "google/protobuf/timestamp.proto";
import "money.proto";
import "shop/place.proto";

message Envelope {
  message Empty {}
  message Order {
    string owner = 1;
    int64 order_id = 2;
    com.example.Money price = 3;
    google.protobuf.Timestamp placed_at = 4;
    repeated com.example.shop.Place places = 5;
    oneof payment {
      string card = 6;
      bool cash = 7;
    }
    optional int32 zero = 8;
    int32 unset = 9;
  }
  string note = 1;
}

message Greeting {
  string text = 1;
}
""",
    "money.proto": """syntax = "proto3";
package com.example;

message Money {
  string currency = 1;
  int64 cents = 2;
}
""",
    "shop/place.proto": """syntax = "proto3";
package com.example.shop;

import "money.proto";

message Place {
  string name = 1;
  com.example.Money rent = 2;
}
""",
    "types.proto": """syntax = "proto3";
package com.example.types;

import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message Types {
  enum Size {
    SIZE_UNKNOWN = 0;
    SIZE_SMALL = 1;
  }
  double a_double = 1;
  float a_float = 2;
  int32 an_int32 = 3;
  int64 an_int64 = 4;
  uint32 a_uint32 = 5;
  uint64 a_uint64 = 6;
  sint64 a_sint64 = 7;
  fixed32 a_fixed32 = 8;
  sfixed64 a_sfixed64 = 9;
  bool a_bool = 10;
  string a_string = 11;
  bytes some_bytes = 12;
  Size size = 13;
  repeated Size sizes = 14;
  repeated int32 numbers = 15;
  map<string, int64> by_name = 16;
  map<int32, Types> by_number = 17;
  map<bool, Size> by_truth = 18;
  string renamed = 19 [json_name = "otherName"];
  double not_a_number = 20;
  double infinite = 21;
  google.protobuf.Any any = 30;
  google.protobuf.Duration duration = 31;
  google.protobuf.Empty empty = 32;
  google.protobuf.FieldMask mask = 33;
  google.protobuf.Struct struct = 34;
  google.protobuf.Value value = 35;
  google.protobuf.ListValue list = 36;
  google.protobuf.Timestamp timestamp = 37;
  google.protobuf.Int64Value wrapped_int64 = 38;
  google.protobuf.BytesValue wrapped_bytes = 39;
  google.protobuf.NullValue null = 40;
}
""",
    "old.proto": """syntax = "proto2";
package com.example.old;

message Old {
  required string owner = 1;
  optional int32 count = 2 [default = 7];
  optional group Details = 3 {
    optional string text = 4;
  }
  extensions 100 to 199;
}

extend Old {
  optional string more = 100;
}
""",
    "prices.proto": """syntax = "proto3";
package com.example.prices;

import "confluent/meta.proto";
import "google/type/date.proto";
import "google/type/money.proto";

message Price {
  option (confluent.message_meta).doc = "A price";
  google.type.Money amount = 1;
  google.type.Date day = 2;
}
""",
    "edition.proto": """edition = "2023";
package com.example.edition;

message Edition {
  string owner = 1;
  int32 count = 2 [features.field_presence = IMPLICIT];
}
""",
}


def compile_protos():
    """Compiles PROTOS and returns the modules by the names of their files."""
    folder = pathlib.Path(tempfile.mkdtemp())
    for name, text in PROTOS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    # confluent/meta.proto: a copy of what Confluent's serializers have built in
    (folder / "confluent").mkdir()
    (folder / "confluent" / "meta.proto").write_text("""syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta {
  string doc = 1;
  map<string, string> params = 2;
  repeated string tags = 3;
}
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
""")
    site = pathlib.Path(google.protobuf.__file__).parents[2]
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    status = protoc.main(["protoc", f"-I{folder}", f"-I{include}", f"-I{site}", f"--python_out={folder}", *PROTOS])
    if status != 0:
        sys.exit("protoc failed")
    sys.path.insert(0, str(folder))
    import confluent_kafka.schema_registry.confluent.meta_pb2  # noqa: F401 (registers confluent/meta.proto)
    import types
    sys.modules["confluent"] = types.ModuleType("confluent")
    sys.modules["confluent.meta_pb2"] = confluent_kafka.schema_registry.confluent.meta_pb2
    return {name: importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2") for name in PROTOS}


def protobuf(name, topic, message, conf=None):
    headers = []
    serializer = ProtobufSerializer(type(message), registry, conf)
    data = serializer(message, SerializationContext(topic, MessageField.VALUE, headers))
    add("protobuf", name, data, json.loads(json_format.MessageToJson(message)), headers)


def make_protobuf():
    modules = compile_protos()
    o, money, place = modules["order.proto"], modules["money.proto"], modules["shop/place.proto"]
    cents = money.Money(currency="EUR", cents=9007199254740993)
    order = o.Envelope.Order(owner="red", order_id=-42, price=cents, card="4111", zero=0,
                             places=[place.Place(name="north", rent=cents), place.Place()])
    order.placed_at.FromJsonString("2026-01-02T03:04:05.678Z")
    protobuf("nested message of indexes 0, 1, with imports and a oneof", "proto-orders", order)
    protobuf("nested message, by GUID in a header", "proto-orders", order, BY_GUID)
    protobuf("first message", "proto-orders", o.Envelope(note="grüße"))
    protobuf("nested message of indexes 0, 0, empty", "proto-orders", o.Envelope.Empty())
    protobuf("second message", "proto-orders", o.Greeting(text="hello"))

    t = modules["types.proto"]
    types = t.Types(
        a_double=0.1, a_float=0.1, an_int32=-1, an_int64=-(2**63), a_uint32=2**32 - 1, a_uint64=2**64 - 1,
        a_sint64=-5, a_fixed32=6, a_sfixed64=-7, a_bool=True, a_string="a \"b\" \U0001f600 </script>",
        some_bytes=bytes([0, 250, 255]), size=t.Types.SIZE_SMALL, sizes=[0, 1, 77], numbers=[0, 1, -1],
        by_name={"a": 1}, by_number={-1: t.Types(a_string="inner")}, by_truth={False: 1}, renamed="x",
        not_a_number=float("nan"), infinite=float("-inf"), null=0)
    types.any.Pack(t.Types(a_string="packed"))
    types.duration.FromMilliseconds(-1500)
    types.empty.SetInParent()
    types.mask.paths.extend(["a_string", "by_name.a"])
    types.struct.update({"a": [1, None, {"b": True}]})  # one key: maps have no order
    types.value.null_value = 0
    types.list.extend([1.5, "two"])
    types.timestamp.FromNanoseconds(1_700_000_000_123_456_789)
    types.wrapped_int64.value = 0
    types.wrapped_bytes.value = b"\xff"
    protobuf("all types, and well-known ones", "proto-types", types)

    old = modules["old.proto"]
    message = old.Old(owner="red")
    message.details.text = "in a group"
    message.Extensions[old.more] = "an extension"
    protobuf("proto2 with a group and an extension", "proto-old", message)

    prices = modules["prices.proto"]
    price = prices.Price()
    price.amount.currency_code, price.amount.units, price.day.year = "EUR", 12, 2026
    protobuf("imports of google/type and confluent/meta.proto", "proto-prices", price)
    protobuf("edition 2023", "proto-edition", modules["edition.proto"].Edition(owner="", count=0))
    for name in PROTOS:
        proto_texts[modules[name].DESCRIPTOR.serialized_pb] = PROTOS[name]

    # Registries that keep what they get answer this producer's own text: the descriptor in base64.
    protobuf("schema is a descriptor in base64", "proto-base64", o.Greeting(text="base64"))


# JSON Schema


def json_schema(name, topic, schema, value, references=(), conf=None):
    headers = []
    text = Schema(json.dumps(schema), "JSON", [SchemaReference(*r) for r in references])
    data = JSONSerializer(text, registry, conf=conf)(value, SerializationContext(topic, MessageField.VALUE, headers))
    add("json", name, data, value, headers)


def make_json_schema():
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Order", "type": "object",
              "properties": {"owner": {"type": "string"}, "id": {"type": "integer"}}, "required": ["owner"]}
    value = {"owner": "red", "id": 9007199254740993, "text": "grüße \U0001f600 </script>", "list": [1, 2.5, None, {}]}
    json_schema("object", "json-orders", schema, value)
    json_schema("object, by GUID in a header", "json-orders", schema, value, conf=BY_GUID)
    json_schema("object without a title", "json-any", {"title": "Any"}, {"a": {"b": [True]}})
    customer = {"$id": "https://example.org/customer.json", "title": "Customer", "type": "object",
                "properties": {"name": {"type": "string"}}}
    register("customer", json.dumps(customer), "JSON")
    json_schema("reference", "json-invoices", {
        "$schema": "http://json-schema.org/draft-07/schema#", "title": "Invoice", "type": "object",
        "properties": {"customer": {"$ref": "https://example.org/customer.json"}}},
        {"customer": {"name": "red"}}, [("https://example.org/customer.json", "customer", 1)])


# CloudEvents


def cloud_event(name, attributes, data, structured, expected, **more):
    event = CloudEvent({
        "id": "1", "source": "/orders", "type": "com.example.order.paid", "specversion": "1.0",
        "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), **attributes}, data)
    convert = cloudevents_kafka.to_structured_event if structured else cloudevents_kafka.to_binary_event
    message = convert(event)
    key = message.key.decode() if isinstance(message.key, bytes) else message.key
    add("cloudevents", name, message.value, expected, sorted(message.headers.items()), key,
        type="com.example.order.paid", **more)


def make_cloud_events():
    data = {"owner": "red", "text": "grüße", "id": 9007199254740993}
    text = {"partitionkey": "red", "datacontenttype": "application/json", "subject": "42", "shop": "north"}
    for structured in (False, True):
        mode = "structured" if structured else "binary"
        cloud_event(f"{mode} mode", text, data, structured, data)
        cloud_event(f"{mode} mode, text", {"partitionkey": "red", "datacontenttype": "text/plain"},
                    "hello, red", structured, None, text="hello, red")
    cloud_event("structured mode, data_base64",
                {"partitionkey": "red", "datacontenttype": "application/octet-stream"},
                "grüße".encode(), True, None, text="grüße")


def make_schemas():
    schemas = []
    for number in sorted(registry._store.schema_id_index):
        one = registry._store.schema_id_index[number]
        text = one.schema.schema_str
        if one.schema.schema_type == "PROTOBUF" and one.subject != "proto-base64-value":
            text = proto_texts[base64.b64decode(text)]
        schemas.append({
            "id": number, "guid": one.guid, "subject": one.subject, "version": one.version,
            "schemaType": one.schema.schema_type or "AVRO", "schema": text,
            "references": [{"name": r.name, "subject": r.subject, "version": r.version}
                           for r in one.schema.references or ()]})
    return schemas


make_avro()
make_protobuf()
make_json_schema()
make_cloud_events()
packages = ["confluent-kafka", "fastavro", "protobuf", "cloudevents"]
made_by = "make.py with " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
with open(HERE / "registry.json", "w", encoding="utf-8") as out:
    json.dump({"madeBy": made_by, "schemas": make_schemas(), "records": records}, out, indent=1)
    out.write("\n")
