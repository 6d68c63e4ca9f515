"""grm serve | judge | profiles | models fetch | models convert."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from grm_service.assembly import default_profile, open_catalog, open_service
from grm_service.engines.files.convert import Encoding
from grm_service.errors import GRMError
from grm_service.service import Service
from grm_service.settings import EngineName, Settings

if TYPE_CHECKING:
    from grm_service.api.schemas import RewardRequest

app = typer.Typer(
    help="The reward service that explains itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="Model files.", no_args_is_help=True)
app.add_typer(models, name="models")
keys = typer.Typer(help="API keys, in the file that GRM_KEYS_FILE names.", no_args_is_help=True)
app.add_typer(keys, name="keys")
logger = logging.getLogger(__name__)
err = Console(stderr=True, soft_wrap=True)

Host = Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (8000).")]
Engine = Annotated[EngineName | None, typer.Option(help="What generates (auto).")]
ProfileName = Annotated[str | None, typer.Option(help="A profile's name, or a path ending in .yaml.")]


@app.command()
def serve(host: Host = None, port: Port = None, engine: Engine = None, profile: ProfileName = None) -> None:
    """Serve rewards over HTTP. Every setting is also an environment variable, GRM_ + its name."""
    from grm_service.api.server import serve as run
    from grm_service.api.telemetry import log_json

    settings = _settings(host=host, port=port, engine=engine, profile=profile)
    try:
        service = open_service(settings)
        if settings.log_format == "json":
            log_json()
            run(settings, service, lambda address: logger.info("serving on %s", address))
        else:
            _say_loading(service)
            run(settings, service, _announce)
    except GRMError as wrong:
        _fail(wrong)


@app.command()
def judge(
    file: Annotated[Path | None, typer.Argument(help="A request as JSON; - or nothing reads stdin.")] = None,
    engine: Engine = None,
    profile: ProfileName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as /v1/rewards gives it.")] = False,
) -> None:
    """Judge one request, as POST /v1/rewards takes it, and show why."""
    from grm_service.api.replies import RewardReply
    from grm_service.terminal import sampling_bar, show
    from grm_service.types import Record

    settings = _settings(engine=engine, profile=profile)
    request = _read_request(file)

    async def run() -> Record:
        service = open_service(settings)
        _say_loading(service)
        await service.start()
        try:
            with sampling_bar(err, request.k or service.profile.sampling.k) as advance:
                return await service.judge(request.to_task(), advance)
        finally:
            await service.close()

    try:
        record = asyncio.run(run())
    except GRMError as wrong:
        _fail(wrong)
    if as_json:
        print(RewardReply.of(record, request).model_dump_json(indent=2))  # noqa: T201
    else:
        show(Console(), request.to_task(), record)


@app.command()
def profiles() -> None:
    """List the judges that are known."""
    try:
        catalog = open_catalog(_settings())
    except GRMError as wrong:
        _fail(wrong)
    table = Table("name", "model", "k", "description")
    for profile in catalog.profiles.values():
        table.add_row(profile.name, profile.model or "any", str(profile.sampling.k), profile.description)
    Console().print(table)


@models.command()
def fetch(name: Annotated[str, typer.Argument(help="A profile's name, such as smollm2-135m.")]) -> None:
    """Fetch a profile's model into the cache (GRM_CACHE_DIR) and make it ready to load."""
    from grm_service.engines.files.weights import f16_gguf

    settings = _settings(profile=name)
    try:
        profile = default_profile(settings, open_catalog(settings))
        if profile.package is None:
            _say(f"{profile.model} comes from the model hub: it is fetched at the first start")
            return
        _say(f"{profile.model} is at {f16_gguf(profile.package, settings.cache_dir)}")
    except GRMError as wrong:
        _fail(wrong)


@models.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A model's folder (safetensors), or a LoRA adapter's.")],
    target: Annotated[Path, typer.Argument(help="The GGUF to write, ending in .gguf.")],
    base: Annotated[
        Path | None, typer.Option(help="The adapter's base model, if not where the adapter says.")
    ] = None,
    encoding: Annotated[Encoding, typer.Option("--type", help="How weights are stored.")] = "f16",
) -> None:
    """Write a model as a GGUF that the openvino engine reads, a LoRA adapter merged in where there is one."""
    from grm_service.engines.files.convert import convert as write

    _settings()
    try:
        write(source, target, base, encoding)
    except GRMError as wrong:
        _fail(wrong)
    _say(f"{target} is ready: GRM_MODEL={target} grm serve")


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, as metrics and usage name it.")],
    weight: Annotated[float, typer.Option(min=0.001, help="Its share where several wait.")] = 1.0,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Its requests at once.")] = None,
) -> None:
    """Make a key and print it, once: the file keeps its hash only. A running server reads it at its start."""
    from grm_service.keys import add

    try:
        print(add(_keys_file(), name, weight, max_requests))  # noqa: T201
    except GRMError as wrong:
        _fail(wrong)


@keys.command("list")
def list_keys() -> None:
    """List the names of the keys."""
    from grm_service.keys import load

    try:
        known = load(_keys_file()).keys
    except GRMError as wrong:
        _fail(wrong)
    table = Table("name", "weight", "max requests")
    for key in known:
        table.add_row(key.name, f"{key.weight:g}", str(key.max_requests or "any"))
    Console().print(table)


@keys.command("remove")
def remove_key(name: Annotated[str, typer.Argument(help="Whose key.")]) -> None:
    """Take a key out of the file; a running server forgets it at its next start."""
    from grm_service.keys import remove

    try:
        remove(_keys_file(), name)
    except GRMError as wrong:
        _fail(wrong)


def _keys_file() -> Path:
    path = _settings().keys_file
    if path is None:
        _fail(GRMError("say where the keys are kept: GRM_KEYS_FILE=keys.yaml grm keys ..."))
    return path


def _settings(**flags: object) -> Settings:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "gguf"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as wrong:
        _fail(GRMError("; ".join(f"GRM_{str(e['loc'][0]).upper()}: {e['msg']}" for e in wrong.errors())))


def _read_request(file: Path | None) -> RewardRequest:
    from grm_service.api.schemas import RewardRequest

    try:
        text = sys.stdin.buffer.read() if file is None or str(file) == "-" else file.read_bytes()
        return RewardRequest.model_validate_json(text)
    except OSError as wrong:
        _fail(wrong)
    except ValidationError as wrong:
        for error in wrong.errors():
            _say(f"{'.'.join(map(str, error['loc'])) or 'request'}: {error['msg']}")
        _fail(GRMError(f"{file or 'stdin'} is not a request that can be judged"))


def _announce(address: str) -> None:
    from grm_service.api.examples import REWARDS

    body = shlex.quote(json.dumps(REWARDS["pair"]["value"]))
    _say(f"serving on {address}, docs on {address}/docs; try:")
    # Not through the console: a line to paste must not be wrapped.
    sys.stderr.write(f"\n  curl -s {address}/v1/rewards -H 'Content-Type: application/json' -d {body}\n\n")
    sys.stderr.flush()


def _say_loading(service: Service) -> None:
    model = service.engine.model or "the model of the server"
    _say(f"loading {model} with the engine {service.engine.name} ({service.chosen})")


def _say(text: str) -> None:
    err.print(text, highlight=False, markup=False)


def _fail(wrong: Exception) -> NoReturn:
    err.print(f"error: {wrong}", style="red", highlight=False, markup=False)
    raise typer.Exit(1)
