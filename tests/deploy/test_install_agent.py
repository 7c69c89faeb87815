"""The agent's installation as one command: into a folder, without network, upgraded and rolled back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "install-agent"


def install(
    destination: Path | None, *options: str, path: Path | None = None, fails: bool = False
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    environment.pop("DESTDIR", None)
    if destination is not None:
        environment["DESTDIR"] = str(destination)
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    done = subprocess.run([SCRIPT, *options], capture_output=True, text=True, timeout=110, env=environment)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done


def wheel(folder: Path, name: str, version: str, files: dict[str, str], metadata: str = "") -> None:
    """A small wheel, made here: what is installed is not what this test is about."""
    plain = re.sub(r"[-_.]+", "_", name)
    info = f"{plain}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{plain}-{version}-py3-none-any.whl", "w") as file:
        for path, text in contents.items():
            file.writestr(path, text)
        file.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"]))


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A small linetally, and a package of each extra that a gateway gets."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = {
        "agent/__init__.py": "",
        "agent/__main__.py": "import apsw, openpyxl\n\n\ndef main():\n    print('linetally-agent')\n\n\nmain()\n",
        f"linetally-{version}.dist-info/entry_points.txt": "[console_scripts]\nlinetally-agent = agent.__main__:main\n",
    }
    needs = (("agent", "apsw"), ("xlsx", "openpyxl"))
    metadata = [f'Provides-Extra: {extra}\nRequires-Dist: {name} ; extra == "{extra}"\n' for extra, name in needs]
    wheel(folder, "linetally", version, files, "".join(metadata))
    wheel(folder, "apsw", "3.51.3", {"apsw.py": ""})
    wheel(folder, "openpyxl", "3.1.5", {"openpyxl.py": ""})
    return folder


def test_install_upgrade_roll_back_and_take_away(tmp_path: Path, wheels: Path) -> None:
    root = tmp_path / "root"
    home = root / "opt" / "linetally-agent"
    said = install(root, "--wheels", str(wheels)).stdout
    assert "Installed: linetally-agent" in said
    first = str((home / "current").readlink())
    script = home / first / "bin" / "linetally-agent"
    words = script.read_text().splitlines()[:2]  # a path that is too long for the first line stands in the second
    started_by = words[1].removeprefix("'''exec' ") if words[0] == "#!/bin/sh" else words[0].removeprefix("#!")
    assert started_by.startswith(f"/opt/linetally-agent/{first}/bin/python"), "not the image's folder"
    done = subprocess.run(
        [home / "current" / "bin" / "python", "-m", "agent", "--help"],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert "linetally-agent" in done.stdout
    assert list((home / first / "lib").rglob("agent/__pycache__/__main__.*.pyc")), "compiled at installation"
    unit = root / "etc" / "systemd" / "system" / "linetally-agent.service"
    assert "ExecStart=/opt/linetally-agent/current/bin/linetally-agent run" in unit.read_text()
    assert str((root / "usr" / "local" / "bin" / "linetally-agent").readlink()) == (
        "/opt/linetally-agent/current/bin/linetally-agent"
    )
    assert 'state_folder = "/var/lib/linetally-agent"' in (root / "etc/linetally/agent.toml.example").read_text()
    config = root / "etc" / "linetally" / "agent.toml"
    config.write_text("mine")

    install(root, "--rollback", fails=True)  # there is nothing before the first
    assert str((home / "current").readlink()) == first

    subprocess.run(["sleep", "1.1"], check=True)  # a folder's name has seconds
    install(root, "--wheels", str(wheels))
    second = str((home / "current").readlink())
    assert second != first and str((home / "previous").readlink()) == first

    assert {path.name for path in home.iterdir()} == {first, second, "current", "previous"}

    install(root, "--rollback")
    assert (str((home / "current").readlink()), str((home / "previous").readlink())) == (first, second)
    install(root, "--rollback")
    assert str((home / "current").readlink()) == second

    install(root, "--uninstall")
    assert not home.exists() and not unit.exists()
    assert config.read_text() == "mine"


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    said = install(root, "--dry-run").stdout
    assert "would run:" in said and "--require-hashes" in said and "would link:" in said
    assert not list(root.iterdir())


def test_without_the_packages_it_says_so_and_leaves_all_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = install(root, "--wheels", str(tmp_path), fails=True)
    assert "Nothing was changed" in done.stdout
    assert not (root / "etc").exists() and not (root / "opt" / "linetally-agent" / "current").exists()
    assert "there is no folder" in install(root, "--wheels", str(tmp_path / "none"), fails=True).stderr


def test_an_old_python_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(old), "DESTDIR": str(tmp_path / "root")}
    done = subprocess.run([SCRIPT], capture_output=True, text=True, env=environment, timeout=20)
    assert done.returncode == 2 and "Python 3.11 or later" in done.stderr


def test_the_gateways_lock_is_a_part_of_the_lock() -> None:
    """The same versions and hashes; neither a database nor a web server comes onto a gateway."""

    def blocks(name: str) -> set[str]:
        return set(re.split(r"\n(?=[a-zA-Z0-9])", (ROOT / name).read_text().strip()))

    gateway = blocks("requirements-agent.lock")
    assert gateway < blocks("requirements.lock")
    names = {re.split("[=]", block, maxsplit=1)[0].lower() for block in gateway}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = (*extras["agent"], *extras["xlsx"])
    wanted = {re.split(r"[\[><=]", each, maxsplit=1)[0].lower() for each in needed} - {"linetally"}
    assert wanted <= names
    assert not names & {"fastapi", "sqlalchemy", "pandas", "pydantic", "uvicorn"}
