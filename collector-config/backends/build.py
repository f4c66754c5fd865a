"""Builds or fetches the real back ends (collector, Jaeger, Zipkin) once, into a cache keyed by their inputs; and, for
tests that have other people's programs send telemetry, telemetrygen and the OpenTelemetry JavaScript SDK.

Each program lives in a folder of its own, named by a hash of everything that determines it, so a change of the
manifest, of go.mod or go.sum, of the Go version or of this file's build flags builds anew and nothing else does.
A build happens in a temporary folder inside the cache and is renamed into place, under a lock: an interrupted build
leaves nothing that looks finished, and two runs at once build once.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .errors import BackendError, MissingBinary
from .progress import TTY_INTERVAL_S, Progress

__all__ = ["Binaries", "build", "cache_dir", "locate", "locate_one", "pin"]

FOLDER = Path(__file__).resolve().parent.parent
DISTRIBUTION = FOLDER / "distribution"
JAEGER = FOLDER / "jaeger"
SENDERS = FOLDER.parent / "tests" / "e2e" / "senders"

BUILDER_MODULE = "go.opentelemetry.io/collector/cmd/builder"
COLLECTOR_VERSION = "0.158.0"
JAEGER_PACKAGE = "github.com/jaegertracing/jaeger/cmd/jaeger"
JAEGER_VERSION = "2.13.0"
TELEMETRYGEN_MODULE = "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen"
# The module proxy has no telemetrygen 0.158.0.
TELEMETRYGEN_VERSION = "0.157.0"
JAVASCRIPT_VERSION = "2.12.0"
ZIPKIN_VERSION = "3.6.1"
ZIPKIN_SHA256 = "981b1de6139b4f8f787a909c308028732f9713ae5284353d2a5aa404d1094775"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"

MIN_GO = (1, 25)
GO_HINT = "Go 1.25 or newer (package `golang`, or the Go project's own archive)"
WORK_PREFIX = ".work-"


@dataclass(frozen=True)
class Binaries:
    """Where the three programs are."""

    collector: Path
    jaeger: Path
    zipkin: Path


@dataclass(frozen=True)
class _Workbench:
    """What a build gets: a folder to work in, one for its product, Go's build cache, somebody to report to."""

    work: Path
    product: Path
    go_cache: Path
    progress: Progress


@dataclass(frozen=True)
class _Target:
    name: str
    version: str
    file_name: str
    inputs: tuple[Path, ...]
    extra: str
    uses_go: bool
    produce: Callable[[_Workbench], None]
    tools: tuple[tuple[str, str], ...] = ()
    """What else a build needs on PATH, and what to install for it."""

    def folder(self) -> Path:
        """The cache folder of exactly this build; raises BackendError when naming it takes Go and Go isn't there."""
        return cache_dir() / f"{self.prefix()}{self.suffix()}"

    def prefix(self) -> str:
        digest = hashlib.sha256()
        for part in (self.version, self.extra):
            digest.update(part.encode() + b"\0")
        for path in self.inputs:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"

    def suffix(self) -> str:
        if not self.uses_go:
            return ""
        version, system, machine = go_environment()
        return f"-{version}-{system}-{machine}"

    def need_tools(self) -> None:
        """Raises BackendError, saying what to install, when a build of this target can't even begin."""
        if self.uses_go:
            _need_go()
        for tool, what in self.tools:
            _need(tool, what)

    def cached(self) -> Path | None:
        """The finished file, or None. Without Go on the machine, any Go version's build for this platform will do."""
        if self.uses_go and shutil.which("go") is None:
            candidates = sorted(cache_dir().glob(f"{self.prefix()}-go*-{_platform_suffix()}"))
        else:
            candidates = [self.folder()]
        for folder in reversed(candidates):
            if (folder / self.file_name).is_file():
                return folder / self.file_name
        return None


def cache_dir() -> Path:
    """`$BACKENDS_CACHE`, else `otelagent/backends` in the user's cache folder."""
    chosen = os.environ.get("BACKENDS_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "otelagent" / "backends"


def locate() -> Binaries:
    """The cached programs; raises MissingBinary naming those that aren't built."""
    found = {target.name: target.cached() for target in _BACKENDS}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise MissingBinary(f"not built: {', '.join(missing)} (in {cache_dir()}); run `make backends`")
    return Binaries(**{name: path for name, path in found.items() if path is not None})


def locate_one(name: str) -> Path:
    """The cached program called `name`, a back end or a sender; raises MissingBinary."""
    for target in _TARGETS:
        if target.name == name:
            path = target.cached()
            if path is None:
                rule = "backends" if target in _BACKENDS else "senders"
                raise MissingBinary(f"{name} {target.version} is not built (in {cache_dir()}); run `make {rule}`")
            return path
    raise ValueError(f"no back end called {name!r}")


def build(names: tuple[str, ...] = (), *, out: TextIO | None = None) -> dict[str, Path]:
    """Make sure that the programs (the three back ends by default) are in the cache; returns where they are.

    Raises BackendError when a tool is missing or a build fails, with the end of its log.
    """
    known = [target.name for target in _TARGETS]
    if unknown := set(names) - set(known):
        raise BackendError(f"no such program: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    targets = [target for target in _TARGETS if target.name in names] if names else list(_BACKENDS)
    out = out or sys.stderr
    missing = [target for target in targets if target.cached() is None]
    for target in missing:  # before any of them: nobody wants to learn after minutes that Maven is missing
        target.need_tools()
    with _workshop(Progress("backends", out)) if missing else nullcontext(Path()) as go_cache:
        result = {}
        for number, target in enumerate(targets, 1):
            progress = Progress(f"[{number}/{len(targets)}] {target.name} {target.version}", out)
            result[target.name] = _ensure(target, go_cache, progress)
        return result


def pin(*, out: TextIO | None = None) -> None:
    """Resolve distribution/builder.yaml again and write its go.mod and go.sum beside it, to be committed with it."""
    _need_go()
    progress = Progress("pin", out or sys.stderr)
    with _workshop(progress) as go_cache:
        work = Path(tempfile.mkdtemp(dir=cache_dir(), prefix=WORK_PREFIX))
        builder = _install_builder(work, go_cache, progress)
        shutil.copy(DISTRIBUTION / "builder.yaml", work)
        command = [str(builder), "--config", "builder.yaml", "--skip-compilation"]
        source = work / "src"
        try:
            progress.run("resolving modules", command, cwd=work, env=_go_env(go_cache))
        except BackendError:
            # The builder ends with a download of every module, also those of other systems, and fails when a proxy
            # lacks one of them. What counts is already written; the compiler has the last word on it.
            if not (source / "go.sum").is_file():
                raise
        progress.run("checking", ["go", "list", "-deps", "."], cwd=source, env=_go_env(go_cache))
        for name in ("go.mod", "go.sum"):
            shutil.copy(source / name, DISTRIBUTION / name)
        progress.done("go.mod and go.sum written")


# --- one target -------------------------------------------------------------------------------------------------


def _ensure(target: _Target, go_cache: Path, progress: Progress) -> Path:
    path = target.cached()
    if path is not None:
        progress.done(f"already built ({_mib(path)})")
        return path
    folder = target.folder()
    work = Path(tempfile.mkdtemp(dir=cache_dir(), prefix=WORK_PREFIX))
    product = work / "product"
    product.mkdir()
    target.produce(_Workbench(work, product, go_cache, progress))
    if not (product / target.file_name).is_file():
        raise BackendError(f"{target.name}: the build ended well but wrote no {target.file_name}")
    if folder.exists():  # a folder without its file: somebody's half deletion
        shutil.rmtree(folder)
    product.rename(folder)
    path = folder / target.file_name
    progress.done(f"ready ({_mib(path)})")
    return path


@contextmanager
def _workshop(progress: Progress) -> Iterator[Path]:
    """Hold the cache's lock; gives Go's build cache. All work folders are gone afterwards, also those of killed runs.

    The build cache of one run is 2 GB and of no use once the programs are in our cache, hence it is private and thrown
    away, unless GOCACHE is set: then whoever set it wants to keep it.
    """
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress.tick("waiting for another run")
                time.sleep(TTY_INTERVAL_S)
        _remove_work(cache)
        try:
            chosen = os.environ.get("GOCACHE")
            yield Path(chosen) if chosen else cache / f"{WORK_PREFIX}go-build"
        finally:
            _remove_work(cache)


def _remove_work(cache: Path) -> None:
    for path in cache.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def _produce_collector(bench: _Workbench) -> None:
    builder = _install_builder(bench.work, bench.go_cache, bench.progress)
    source = bench.work / "src"
    source.mkdir()
    shutil.copy(DISTRIBUTION / "builder.yaml", bench.work)
    for name in ("go.mod", "go.sum"):
        shutil.copy(DISTRIBUTION / name, source)
    command = [str(builder), "--config", "builder.yaml", "--skip-get-modules", "--skip-compilation"]
    bench.progress.run("generating sources", command, cwd=bench.work, env=_go_env(bench.go_cache))
    for name in ("go.mod", "go.sum"):  # the builder has written its own go.mod over ours
        shutil.copy(DISTRIBUTION / name, source)
    _go_build(".", "otelagent-collector", source, bench)


def _produce_jaeger(bench: _Workbench) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(JAEGER / name, bench.work)
    stamp = f"-X github.com/jaegertracing/jaeger/internal/version.latestVersion=v{JAEGER_VERSION}"
    _go_build(JAEGER_PACKAGE, "jaeger", bench.work, bench, ldflags=stamp)


def _produce_zipkin(bench: _Workbench) -> None:
    artifact = f"io.zipkin:zipkin-server:{ZIPKIN_VERSION}:jar:slim"
    command = ["mvn", "-B", MAVEN_COPY, f"-Dartifact={artifact}", f"-DoutputDirectory={bench.product}"]
    bench.progress.run("fetching with Maven", command, cwd=bench.work)
    jar = bench.product / f"zipkin-server-{ZIPKIN_VERSION}-slim.jar"
    if not jar.is_file():
        raise BackendError(f"zipkin: Maven ended well but left no {jar.name}")
    found = hashlib.sha256(jar.read_bytes()).hexdigest()
    if found != ZIPKIN_SHA256:
        raise BackendError(f"zipkin: {jar.name} has SHA-256 {found}, expected {ZIPKIN_SHA256}; it was not kept")


def _produce_telemetrygen(bench: _Workbench) -> None:
    env = _go_env(bench.go_cache) | {"GOBIN": str(bench.product)}
    command = ["go", "install", "-trimpath", "-ldflags", "-s -w", f"{TELEMETRYGEN_MODULE}@v{TELEMETRYGEN_VERSION}"]
    bench.progress.run("installing", command, cwd=bench.work, env=env)


def _produce_javascript(bench: _Workbench) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SENDERS / name, bench.product)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    bench.progress.run("installing", command, cwd=bench.product)


def _install_builder(work: Path, go_cache: Path, progress: Progress) -> Path:
    command = ["go", "install", "-trimpath", f"{BUILDER_MODULE}@v{COLLECTOR_VERSION}"]
    progress.run("installing the collector builder", command, cwd=work, env=_go_env(go_cache) | {"GOBIN": str(work)})
    return work / "builder"


def _go_build(package: str, name: str, cwd: Path, bench: _Workbench, ldflags: str = "") -> None:
    env = _go_env(bench.go_cache)
    listed = bench.progress.run("downloading modules", ["go", "list", "-deps", package], cwd=cwd, env=env)
    total = sum(1 for line in listed.splitlines() if line and not line.startswith("go: "))
    flags = f"-s -w {ldflags}".strip()
    output = str(bench.product / name)
    command = ["go", "build", "-v", "-trimpath", "-ldflags", flags, "-o", output, package]
    bench.progress.run("compiling", command, cwd=cwd, env=env, packages=total)


def _go_env(go_cache: Path) -> dict[str, str]:
    """The environment of every Go command: a static binary, and this machine's Go rather than one to download."""
    return dict(os.environ, CGO_ENABLED="0", GOTOOLCHAIN="local", GOWORK="off", GOCACHE=str(go_cache))


# --- tools ------------------------------------------------------------------------------------------------------


def _need(tool: str, what: str) -> None:
    if shutil.which(tool) is None:
        raise BackendError(f"`{tool}` is not on PATH: install {what}")


def _need_go() -> None:
    version = go_environment()[0]
    numbers = version.removeprefix("go").split(".")
    with suppress(ValueError, IndexError):
        if (int(numbers[0]), int(numbers[1])) < MIN_GO:
            raise BackendError(f"{version} is too old: install {GO_HINT}")


@functools.cache
def go_environment() -> tuple[str, str, str]:
    """Go's version, system and machine, as `go env` gives them."""
    _need("go", GO_HINT)
    done = subprocess.run(
        ["go", "env", "GOVERSION", "GOOS", "GOARCH"],
        env=dict(os.environ, GOTOOLCHAIN="local", GOWORK="off"),
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    parts = done.stdout.split()
    if done.returncode != 0 or len(parts) != 3:
        raise BackendError(f"`go env` failed: {done.stderr.strip() or done.stdout.strip()}")
    return parts[0], parts[1], parts[2]


def _platform_suffix() -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"{platform.system().lower()}-{machine}"


def _mib(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.0f} MiB"


_BACKENDS = (
    _Target(
        name="collector",
        version=COLLECTOR_VERSION,
        file_name="otelagent-collector",
        inputs=(DISTRIBUTION / "builder.yaml", DISTRIBUTION / "go.mod", DISTRIBUTION / "go.sum"),
        extra="trimpath -s -w",
        uses_go=True,
        produce=_produce_collector,
    ),
    _Target(
        name="jaeger",
        version=JAEGER_VERSION,
        file_name="jaeger",
        inputs=(JAEGER / "go.mod", JAEGER / "go.sum"),
        extra="trimpath -s -w",
        uses_go=True,
        produce=_produce_jaeger,
    ),
    _Target(
        name="zipkin",
        version=ZIPKIN_VERSION,
        file_name=f"zipkin-server-{ZIPKIN_VERSION}-slim.jar",
        inputs=(),
        extra=ZIPKIN_SHA256,
        uses_go=False,
        produce=_produce_zipkin,
        tools=(
            ("mvn", "Maven 3.8 or newer (Debian: apt install maven)"),
            ("java", "Java 17 or newer (Debian: apt install openjdk-17-jre-headless)"),
        ),
    ),
)
_SENDERS = (
    _Target(
        name="telemetrygen",
        version=TELEMETRYGEN_VERSION,
        file_name="telemetrygen",
        inputs=(),
        extra="trimpath -s -w",
        uses_go=True,
        produce=_produce_telemetrygen,
    ),
    _Target(
        name="javascript",
        version=JAVASCRIPT_VERSION,
        file_name="node_modules/.package-lock.json",
        inputs=(SENDERS / "package.json", SENDERS / "package-lock.json"),
        extra="",
        uses_go=False,
        produce=_produce_javascript,
        tools=(("node", "Node.js 20 or newer, which brings npm"), ("npm", "npm, which comes with Node.js")),
    ),
)
_TARGETS = (*_BACKENDS, *_SENDERS)
