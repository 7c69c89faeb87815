"""Tag lists to a spreadsheet and back."""

from __future__ import annotations

import csv
import importlib
import io
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from agent.__main__ import main
from agent.commissioning.tag_list import inert, live, rows_of, tags_of, write_csv
from agent.config import load
from tests.agent import factory


def test_there_and_back_is_the_same(tmp_path: Path) -> None:
    """Every key of both protocols, a counter of two lanes, texts, several namespaces."""
    for protocol, text in (
        ("modbus", 'state = { register = 3, table = "input", mask = 0xF0, shift = 4 }\n'
                   'total = [{ register = 1, type = "uint32", word_order = "little", byte_order = "little" },'
                   ' { register = 9, type = "bcd16", device_id = 4 }]\nspeed = { register = 7, scale = "0.5" }\n'
                   'product = { register = 20, type = "string", length = 8 }\ntime = { register = 30 }\n'),
        ("opcua", 'state = { path = "1:a/2:b", namespace = ["urn:a", "urn:b"],'
                  ' texts = { Executing = 3, "Not it" = 0 } }\n'
                  'total = { node = "nsu=urn:x;s=a=b", modulus = 10000, bcd = true }\n'),
    ):  # fmt: skip
        before = tomllib.loads(text)
        rows = rows_of(before, protocol)
        path = tmp_path / "tags.csv"
        path.write_text(write_csv(rows, protocol), "utf-8", newline="")
        from agent.commissioning.tag_list import read_rows

        tags = tags_of(read_rows(path), protocol)
        assert tomllib.loads("\n".join(f"{role} = {tag}" for role, tag in tags.items())) == before


@pytest.mark.parametrize("cell", ["=1+1", "+a", "-2", "@SUM(A1)", "\tx", "\rx", "'=x", "plain", "'quoted'", ""])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert live(inert(cell)) == (cell if cell != "'=x" else "=x")
    assert not inert(cell).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_name_that_looks_like_a_formula_is_inert_in_the_file() -> None:
    rows = rows_of({"state": {"path": "=HYPERLINK(1)", "namespace": "@x"}}, "opcua")
    (cells,) = list(csv.reader(io.StringIO(write_csv(rows, "opcua"))))[1:]
    assert cells[1] == "'=HYPERLINK(1)"
    assert cells[2] == "'@x"


def write_list(folder: Path, text: str) -> Path:
    path = folder / "tags.csv"
    path.write_text(text, "utf-8")
    return path


def test_a_list_is_put_into_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.modbus())
    tags = write_list(tmp_path, "\ufeffRole;Register;Type\ntotal;40.0;uint32\n;;\nproduct;7;\n")
    assert main(["tags", "import", str(tags), "--config", str(config), "--dry-run"]) == 0
    assert capsys.readouterr().out == 'total = { register = 40, type = "uint32" }\nproduct = { register = 7 }\n'
    assert main(["tags", "import", str(tags), "--config", str(config)]) == 0
    found = {tag.role.name: tag.words for tag in load(config).lines[0].tags}
    assert found == {"STATE": "holding 0 uint16", "TOTAL": "holding 40 uint32", "REJECT": "holding 2 uint16",
                     "PRODUCT": "holding 7 uint16"}  # fmt: skip
    capsys.readouterr()
    assert main(["tags", "export", "--config", str(config)]) == 0
    assert "total,40,,uint32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said", "mend"),
    [
        ("role,register\ntotal,1\ncolour,3\n", "row 3: \"colour\" is no role", "one of: state"),
        ("role,register\n\ntotal,seven\n", 'row 3: register: "seven"', "a number"),
        ("role,register\ntotal,40.001\n", 'row 2: register: "40.001"', "its digits only"),
        ('role,register\ntotal,"1,5"\n', 'row 2: register: "1,5"', "its digits only"),
        ("role,register\ntotal,7.6\n", 'row 2: register: "7.6"', "its digits only"),
        ('role,register,scale\ntotal,7,"0,5"\n', 'row 2: scale: "0,5"', "0.1"),
        ("role,register\ntotal,1,uint32,little\n", 'row 2: "uint32" stands under no column', "first row"),
        ("role,register,type\ntotal,1,uint33\n", 'row 2: total.type: "uint33" is not known', "uint32"),
        ("role,register,colour\ntotal,1,red\n", 'row 2: unknown column "colour"', "word_order"),
        ("role,register\nstate,1\nstate,2\n", "row 3: state: is given more than once", "one tag each"),
        ("register\n1\n", "no column “role”", "the first row names the columns"),
        ("role,type\ntotal,uint16\n", "row 2: total.register: is missing", "register ="),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_row(
    text: str, said: str, mend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = factory.write(tmp_path, factory.modbus())
    before = config.read_text()
    assert main(["tags", "import", str(write_list(tmp_path, text)), "--config", str(config)]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert mend in shown
    assert config.read_text() == before


def test_a_workbook_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `tags export` writes it, then as a spreadsheet would: numbers as numbers, an empty row, a formula's value."""
    config = factory.write(tmp_path, factory.modbus())
    before = load(config).lines[0].tags
    path = tmp_path / "tags.xlsx"
    assert main(["tags", "export", "--config", str(config), "--output", str(path)]) == 0
    assert main(["tags", "import", str(path), "--config", str(config)]) == 0
    assert load(config).lines[0].tags == before
    book = openpyxl.Workbook()
    for row in (["Role", "Register", "bcd", "Type"], [], ["total", 40.0, True, None], ["state", 7, None, "=1+1"]):
        book.active.append(row)
    book.save(path)
    capsys.readouterr()
    assert main(["tags", "import", str(path), "--config", str(config), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown == "total = { register = 40, bcd = true }\nstate = { register = 7 }\n"
    book.active["B4"] = "seven"
    book.save(path)
    assert main(["tags", "import", str(path), "--config", str(config)]) == 2
    assert 'row 4: register: "seven"' in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["text", "cut", "sheet"])
def test_what_is_no_workbook_is_said(harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.modbus())
    path = tmp_path / "tags.xlsx"
    assert main(["tags", "export", "--config", str(config), "--output", str(path)]) == 0
    if harm == "text":
        path.write_text("role,register\n")
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:500])
    else:
        with zipfile.ZipFile(path) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w") as new:
            for name, data in parts.items():
                new.writestr(name, data[: len(data) // 2] if name.startswith("xl/worksheets/") else data)
    assert main(["tags", "import", str(path), "--config", str(config)]) == 2
    assert "no XLSX workbook that can be read" in capsys.readouterr().err


def test_a_list_is_not_written_over_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.modbus())
    before = config.read_text()
    assert main(["tags", "export", "--config", str(config), "--output", str(config)]) == 2
    assert "--output tags.csv" in capsys.readouterr().err
    assert config.read_text() == before


def test_xlsx_without_its_library_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == "openpyxl":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    config = factory.write(tmp_path, factory.modbus())
    path = tmp_path / "tags.xlsx"
    path.write_bytes(b"PK")
    assert main(["tags", "import", str(path), "--config", str(config)]) == 2
    shown = capsys.readouterr().err
    assert "save the sheet as CSV" in shown and "linetally[agent,xlsx]" in shown
    assert main(["tags", "export", "--config", str(config), "--output", str(path)]) == 2
