"""Deployment settings: `GRM_*` environment variables, which the flags of `grm serve` override."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from grm_service.errors import BadSetting

EngineName = Literal["auto", "openvino", "transformers", "openai", "scripted"]


class Settings(BaseSettings):
    """Every field is also the environment variable `GRM_` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="GRM_", extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    engine: EngineName = Field("auto", description="What generates: auto chooses an embedded engine.")
    profile: str = Field("smollm2-judge", description="Default profile: a name, or a path ending in .yaml.")
    model: str | None = Field(None, description="Model (hub id or path) in place of the profile's own.")

    meta_rm: str | None = Field(
        None,
        description="Meta RM (hub id or path, or its name at GRM_META_RM_URL) in place of the profile's own.",
    )
    meta_rm_url: str | None = Field(
        None, description="vLLM server whose /classify grades, such as http://host:8002; default: embedded."
    )
    meta_rm_api_key: str | None = Field(None, repr=False, description="Key for that server.")

    models_dir: Path | None = Field(None, description="Folder of your own profiles; they come first.")
    principles_dir: Path | None = Field(
        None, description="Folder of your own principle sets; they come first."
    )
    cache_dir: Path = Field(
        Path("~/.cache/grm-service"), description="Where fetched and converted models are kept."
    )

    openai_base_url: str | None = Field(
        None,
        description="Server of the openai engine, such as http://host:8000/v1; several by commas.",
    )
    openai_model: str | None = Field(None, description="Name under which that server serves the model.")
    openai_api_key: str | None = Field(None, repr=False, description="Key for that server.")
    openai_connections: int = Field(
        1024, ge=1, description="Most completions asked of one such server at once; more wait here."
    )
    policy_url: str | None = Field(
        None,
        description="OpenAI-compatible server that writes drafts to be improved or paired, such as "
        "http://host:8000/v1; default: the judge's own engine.",
    )
    policy_model: str | None = Field(None, description="Name under which that server serves the policy.")
    policy_api_key: str | None = Field(None, repr=False, description="Key for that server.")
    script: Literal["content", "first", "unreadable"] = Field(
        "content", description="How the scripted engine scores."
    )
    kv_cache_gb: float | None = Field(
        None,
        gt=0,
        description="Most memory for keys and values of an embedded engine, GiB; default: openvino takes "
        "enough for 64 samples of 1,000 tokens, transformers on CUDA most of what is free.",
    )
    precision: Literal["auto", "f32"] = Field(
        "auto",
        description="Arithmetic of the openvino engine: auto rounds to bf16 where the CPU computes with it.",
    )

    audit_url: str = Field(
        "sqlite:///~/.local/share/grm-service/audit.db",
        description="Where every verdict is kept: sqlite:///FILE or postgresql://USER@HOST/NAME.",
    )
    audit_key_file: Path = Field(
        Path("~/.local/share/grm-service/audit.key"),
        description="What seals the audit trail; made where there is none, the same for all replicas.",
    )
    audit_text: bool = Field(True, description="Keep texts, without which a verdict cannot be replayed.")
    audit_keep_days: float | None = Field(
        None, gt=0, le=36500, description="Records older than this are removed; a sealed checkpoint says so."
    )
    probe_every_s: float | None = Field(
        None, gt=0, description="Seconds between two runs of the probes (see `grm probe`); default: none."
    )
    probe_alarm: float | None = Field(
        None, gt=0, le=1, description="Share of its cases that a probe must pass; less is told as failed."
    )
    probe_options: str = Field(
        "", description="Judge options of these runs, written as in a URL: k=4&score=soft."
    )
    log_format: Literal["text", "json"] = Field("text", description="How lines are logged.")
    keys_file: Path | None = Field(
        None, description="API keys, as `grm keys add` writes them; without, everybody may ask."
    )
    allow_anyone: bool = Field(
        False,
        description="Without keys, listen where others reach the server and answer to any host name.",
    )
    max_samples: int = Field(256, ge=1, description="Most samples that are generated at once.")
    max_waiting: int = Field(
        2048, ge=1, description="Most requests that wait for them; more are answered with 429."
    )
    replay_s: float = Field(
        300, ge=0, description="For how long a repeated request gets the verdict that it got before."
    )
    group_window_s: float = Field(
        5,
        ge=0,
        description="How long a response that comes alone waits for its siblings; 0: it is judged alone.",
    )
    dialects: str = Field(
        "single,openrlhf,slime,engines,rerank,nemo_gym,chat",
        description="Which dialects are served, with commas; single: for our own "
        "functions; engines: vLLM's and SGLang's reward models.",
    )
    dialect_options: str = Field(
        "",
        description="Options of those who give none in a URL, written as there: k=4&group=16.",
    )
    drain_s: int = Field(30, ge=0, description="How long requests may take to finish after SIGTERM.")
    max_body_bytes: int = Field(
        8 * 2**20, ge=1024, description="Largest request body; more is answered with 413."
    )
    max_batch_bytes: int = Field(2**28, ge=1024, description="Largest body of a batch.")
    max_text_chars: int = Field(200_000, ge=1, description="Longest single text in a request; more is a 422.")


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of the environment, with the overrides that are not None in their place.

    Raises BadSetting for unknown names and invalid values.
    """
    if unknown := sorted(set(overrides) - set(Settings.model_fields)):
        raise BadSetting(f"unknown settings: {', '.join(unknown)}")
    values = {name: str(value) if isinstance(value, Path) else value for name, value in overrides.items()}
    try:
        return Settings.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        messages = [f"GRM_{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors()]
        raise BadSetting("; ".join(messages)) from None
