"""The agent's installation as one command: into a folder, without network, upgraded and rolled back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "install-agent"


def environment(destination: Path, python: str | Path) -> dict[str, str]:
    own = {"PYTHON": str(python), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "DESTDIR": str(destination)}
    return {**os.environ, **own}


def install(
    destination: Path, *options: str, python: str | Path = sys.executable, fails: bool = False
) -> subprocess.CompletedProcess[str]:
    env = environment(destination, python)
    done = subprocess.run([SCRIPT, *options], capture_output=True, text=True, timeout=110, env=env)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that gives a copy where a new environment is asked for: to make one takes most of an installation."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", folder / "made"], check=True, timeout=110)
    python = folder / "python"
    copy = f'[ "$1 $2" = "-m venv" ] && exec cp -r "{folder}/made" "$3"'
    python.write_text(f'#!/bin/sh\n{copy}\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


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


def fill(folder: Path, main: str) -> Path:
    """A small linetally with this `main`, and a package of each extra that a gateway gets."""
    folder.mkdir()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = {
        "agent/__init__.py": "",
        "agent/__main__.py": f"import sys\nimport apsw, openpyxl\n\n\ndef main():\n    {main}\n\n\nmain()\n",
        f"linetally-{version}.dist-info/entry_points.txt": "[console_scripts]\nlinetally-agent = agent.__main__:main\n",
    }
    needs = (("agent", "apsw"), ("xlsx", "openpyxl"))
    metadata = [f'Provides-Extra: {extra}\nRequires-Dist: {name} ; extra == "{extra}"\n' for extra, name in needs]
    wheel(folder, "linetally", version, files, "".join(metadata))
    wheel(folder, "apsw", "3.51.3", {"apsw.py": ""})
    wheel(folder, "openpyxl", "3.1.5", {"openpyxl.py": ""})
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return fill(tmp_path / "wheels", "print('linetally-agent')")


def test_install_upgrade_roll_back_and_take_away(tmp_path: Path, wheels: Path, quick_python: Path) -> None:
    root = tmp_path / "root"
    home = root / "opt" / "linetally-agent"
    said = install(root, "--wheels", str(wheels), python=quick_python).stdout
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
    install(root, "--wheels", str(wheels), python=quick_python)
    second = str((home / "current").readlink())
    assert second != first and str((home / "previous").readlink()) == first

    assert {path.name for path in home.iterdir()} == {first, second, "current", "previous"}

    install(root, "--rollback")
    assert (str((home / "current").readlink()), str((home / "previous").readlink())) == (first, second)
    install(root, "--rollback")
    assert str((home / "current").readlink()) == second

    operator = unit.with_name("linetally-operator.service")
    assert "linetally-agent operator --config /etc/linetally/agent.toml" in operator.read_text()
    install(root, "--uninstall")
    assert not home.exists() and not unit.exists() and not operator.exists()
    assert config.read_text() == "mine"


# systemd as far as the script knows it: a unit is what its file said at the last daemon-reload.
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>"$DESTDIR/log"
in_use="$DESTDIR/opt/linetally-agent/current"
case "$1" in
daemon-reload) cp "$DESTDIR/etc/systemd/system/linetally-agent.service" "$DESTDIR/loaded" ;;
is-enabled) test -e "$DESTDIR/enabled" ;;
restart)
    cmp -s "$DESTDIR/loaded" "$in_use/share/linetally-agent.service" || echo "not its unit" >>"$DESTDIR/log"
    "$in_use/bin/linetally-agent" run >/dev/null ;;
is-active) test -e "$DESTDIR/enabled" && "$in_use/bin/linetally-agent" alive >/dev/null ;;
esac
"""
INSTALL = """\
#!/bin/sh
# The users that systemd-sysusers would have made are not on this machine.
for word; do
    shift
    case "$skip$word" in -o | -g) skip=x ;; x*) skip= ;; *) set -- "$@" "$word" ;; esac
done
exec /usr/bin/install "$@"
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the machine, with an agent that is to run; `log`: what systemd was asked."""
    root, path = tmp_path / "machine", tmp_path / "path"
    for folder in (root, path):
        folder.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("install", INSTALL), ("systemd-sysusers", "#!/bin/sh\n")):
        (path / name).write_text(text)
        (path / name).chmod(0o755)
    (root / "enabled").touch()
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    monkeypatch.setenv("AS_MACHINE", "yes")
    monkeypatch.setenv("SETTLE_S", "1")
    return root


def test_an_upgrade_that_does_not_stay_up_gives_way_to_the_version_before(
    machine: Path, tmp_path: Path, wheels: Path, quick_python: Path
) -> None:
    home = machine / "opt" / "linetally-agent"
    unit = machine / "etc" / "systemd" / "system" / "linetally-agent.service"
    assert "whether it stays up" in install(machine, "--wheels", str(wheels), python=quick_python).stdout
    first = str((home / "current").readlink())
    log = (machine / "log").read_text()
    assert log.index("daemon-reload") < log.index("restart linetally-agent") < log.index("is-active --quiet")
    assert "try-restart linetally-operator" in log and "not its unit" not in log
    # The old version's own unit comes back with it.
    own = home / first / "share" / "linetally-agent.service"
    own.write_text(own.read_text() + "# of the first version\n")
    (machine / "var" / "lib" / "linetally-agent" / "spool.sqlite").write_text("records")
    (machine / "log").write_text("")

    broken = fill(tmp_path / "broken", "sys.exit(sys.argv[1:] == ['alive'])")  # it starts, and falls
    subprocess.run(["sleep", "1.1"], check=True)  # a folder's name has seconds
    done = install(machine, "--wheels", str(broken), python=quick_python, fails=True)
    assert done.returncode == 1
    assert "going back to the one before" in done.stdout and f"In use again: {first}" in done.stdout
    assert str((home / "current").readlink()) == first
    assert {path.name for path in home.iterdir()} == {first, "current"}, "as if nothing had been"
    assert unit.read_text().endswith("# of the first version\n")
    log = (machine / "log").read_text()
    assert log.count("restart linetally-agent") == 2 and "not its unit" not in log
    assert "try-restart" not in log, "the operator's page went on"
    assert (machine / "var" / "lib" / "linetally-agent" / "spool.sqlite").read_text() == "records"

    # Where the one before does not start either, it is said and not tried for ever.
    (home / first / "bin" / "linetally-agent").write_text("#!/bin/sh\nexit 1\n")
    subprocess.run(["sleep", "1.1"], check=True)
    worse = fill(tmp_path / "worse", "sys.exit(sys.argv[1:] == ['run'])")
    done = install(machine, "--wheels", str(worse), python=quick_python, fails=True)
    assert done.returncode == 2 and "the version before did not start either" in done.stderr
    assert str((home / "current").readlink()) == first


@contextmanager
def begun(destination: Path, wheels: Path, python: Path, when: Callable[[], bool]) -> Iterator[subprocess.Popen[str]]:
    """An installation as soon as `when` is so; a terminal's, with a process group of its own."""
    command = [str(SCRIPT), "--wheels", str(wheels)]
    env = environment(destination, python)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, text=True, start_new_session=True, env=env) as process:
        try:
            deadline = time.monotonic() + 60
            while not when():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_cut_short_it_leaves_nothing(tmp_path: Path, wheels: Path, number: signal.Signals) -> None:
    root, slow = tmp_path / "root", tmp_path / "python"
    slow.write_text(f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] && mkdir "$3" && sleep 60\nexec "{sys.executable}" "$@"\n')
    slow.chmod(0o755)
    home = root / "opt" / "linetally-agent"
    with begun(root, wheels, slow, lambda: home.exists() and any(home.iterdir())) as process:
        os.killpg(process.pid, number)
        assert "Nothing was changed" in process.communicate(timeout=30)[0]
        assert process.returncode == 128 + number
    assert not list(home.iterdir())


def test_a_lost_connection_does_not_leave_a_version_in_use_that_falls(
    machine: Path, tmp_path: Path, wheels: Path, quick_python: Path
) -> None:
    install(machine, "--wheels", str(wheels), python=quick_python)
    home = machine / "opt" / "linetally-agent"
    first = str((home / "current").readlink())
    broken = fill(tmp_path / "broken", "sys.exit(sys.argv[1:] == ['alive'])")
    subprocess.run(["sleep", "1.1"], check=True)  # a folder's name has seconds
    log = machine / "log"
    log.write_text("")
    with begun(machine, broken, quick_python, lambda: "restart linetally-agent" in log.read_text()) as process:
        assert process.stdout is not None
        process.stdout.close()
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(30) == 1
    assert {path.name for path in home.iterdir()} == {first, "current"}, "as if nothing had been"


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    said = install(root, "--dry-run").stdout
    assert "would run:" in said and "--require-hashes" in said and "would link:" in said
    assert not list(root.iterdir())


def test_without_the_packages_it_says_so_and_leaves_all_as_it_was(tmp_path: Path, quick_python: Path) -> None:
    root = tmp_path / "root"
    done = install(root, "--wheels", str(tmp_path), python=quick_python, fails=True)
    assert "Nothing was changed" in done.stdout
    assert not (root / "etc").exists() and not (root / "opt" / "linetally-agent" / "current").exists()
    assert "there is no folder" in install(root, "--wheels", str(tmp_path / "none"), fails=True).stderr


def test_an_old_python_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    env = environment(tmp_path / "root", old)
    done = subprocess.run([SCRIPT], capture_output=True, text=True, env=env, timeout=20)
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
