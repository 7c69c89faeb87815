"""Sparkplug B payloads through protoc: an implementation of protobuf that is not ours."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

# The fields that we use, with the numbers and types that the specification gives them.
PROTO = """\
syntax = "proto2";
message Payload {
  message Metric {
    optional string name = 1; optional uint64 alias = 2; optional uint64 timestamp = 3; optional uint32 datatype = 4;
    optional bool is_historical = 5; optional bool is_transient = 6; optional bool is_null = 7;
    oneof value {
      uint32 int_value = 10; uint64 long_value = 11; float float_value = 12; double double_value = 13;
      bool boolean_value = 14; string string_value = 15; bytes bytes_value = 16;
    }
  }
  optional uint64 timestamp = 1; repeated Metric metrics = 2; optional uint64 seq = 3;
  optional string uuid = 4; optional bytes body = 5;
}
"""


def protoc(folder: Path, what: str, data: bytes) -> bytes:
    """`what`: "encode" (text to a payload) or "decode"."""
    (folder / "payload.proto").write_text(PROTO)
    words = ["protoc", f"--proto_path={folder}", f"--{what}=Payload", "payload.proto"]
    return subprocess.run(words, input=data, capture_output=True, check=True, timeout=20).stdout


def encoded(folder: Path, text: str) -> bytes:
    """The payload that protobuf's text form describes."""
    return protoc(folder, "encode", text.encode())


def decoded(folder: Path, payload: bytes, now_ms: int) -> tuple[dict[str, str], str | None]:
    """(metrics: their value as text, "null" for none; seq). All are of `now_ms`."""
    text = protoc(folder, "decode", payload).decode()
    assert not re.search(r"^\s*\d+[:{ ]", text, re.MULTILINE), f"a field that there is not: {text}"
    metrics = {}
    for block in re.findall(r"metrics \{(.*?)\n\}", text, re.DOTALL):
        fields = dict(re.findall(r"^\s*(\w+): (.*)$", block, re.MULTILINE))
        assert fields["timestamp"] == str(now_ms)
        value = [each for name, each in fields.items() if name.endswith("_value")]
        metrics[fields["name"].strip('"')] = "null" if fields.get("is_null") == "true" else value[0]
    seq = re.search(r"^seq: (\d+)$", text, re.MULTILINE)
    return metrics, None if seq is None else seq[1]
