"""Deployment settings: `GRM_*` environment variables, overridden by the flags of `grm serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from grm_service.errors import BadSetting

EngineName = Literal["auto", "openvino", "transformers", "openai", "scripted"]


class Settings(BaseSettings):
    """Settings; each field can be set by the environment variable `GRM_` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="GRM_", extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    engine: EngineName = Field("auto", description="Inference engine; auto chooses an embedded one.")
    profile: str = Field("qwen-judge", description="Default profile: a name or a path ending in .yaml.")
    model: str | None = Field(None, description="Model (hub id or path) to use instead of the profile's.")

    meta_rm: str | None = Field(
        None,
        description="Meta RM (hub id, path or name at GRM_META_RM_URL) to use instead of the profile's.",
    )
    meta_rm_url: str | None = Field(
        None,
        repr=False,
        description="vLLM server of the meta RM (/classify), such as http://host:8002; default: embedded.",
    )
    meta_rm_api_key: str | None = Field(None, repr=False, description="API key for that server.")

    models_dir: Path | None = Field(None, description="Folder of your own profiles, which take precedence.")
    principles_dir: Path | None = Field(
        None, description="Folder of your own principle sets, which take precedence."
    )
    cache_dir: Path = Field(
        Path("~/.cache/grm-service"), description="Cache for downloaded and converted models."
    )

    openai_base_url: str | None = Field(
        None,
        repr=False,
        description="Server of the openai engine, such as http://host:8000/v1; comma-separated for several.",
    )
    openai_model: str | None = Field(None, description="Model name on that server.")
    openai_api_key: str | None = Field(None, repr=False, description="API key for that server.")
    openai_connections: int = Field(
        1024, ge=1, description="Maximum concurrent requests to one such server; others wait."
    )
    policy_url: str | None = Field(
        None,
        repr=False,
        description="OpenAI-compatible server of the policy that writes drafts, such as http://host:8000/v1; "
        "default: the judge's engine.",
    )
    policy_model: str | None = Field(None, description="Policy model name on that server.")
    policy_api_key: str | None = Field(None, repr=False, description="API key for that server.")
    script: Literal["content", "first", "unreadable"] = Field(
        "content", description="How the scripted engine scores."
    )
    kv_cache_gb: float | None = Field(
        None,
        gt=0,
        description="Maximum KV cache of an embedded engine, in GiB; default: openvino reserves enough for "
        "64 samples of 1,000 tokens, transformers on CUDA uses most of the free memory.",
    )
    precision: Literal["auto", "f32"] = Field(
        "auto",
        description="Precision of the openvino engine; auto uses bf16 if the CPU supports it.",
    )

    audit_url: str = Field(
        "sqlite:///~/.local/share/grm-service/audit.db",
        repr=False,
        description="Database of the audit trail: sqlite:///FILE or postgresql://USER@HOST/NAME.",
    )
    audit_key_file: Path = Field(
        Path("~/.local/share/grm-service/audit.key"),
        description="Key that seals the audit trail; created if missing, must be the same for all replicas.",
    )
    audit_text: bool = Field(True, description="Store texts; without them, verdicts cannot be replayed.")
    audit_keep_days: float | None = Field(
        None,
        gt=0,
        le=36500,
        description="Delete records after this many days; a sealed checkpoint documents it.",
    )
    probe_every_s: float | None = Field(
        None, gt=0, description="Seconds between probe runs (see `grm probe`); default: no runs."
    )
    probe_alarm: float | None = Field(
        None, gt=0, le=1, description="Share of cases that a probe must pass, or it is reported as failed."
    )
    probe_options: str = Field(
        "", description="Judge options of these runs, in the form of a URL query: k=4&score=soft."
    )
    log_format: Literal["text", "json"] = Field("text", description="Log format.")
    keys_file: Path | None = Field(
        None, description="API keys, written by `grm keys add`; default: no authentication."
    )
    allow_anyone: bool = Field(
        False,
        description="Without keys, allow listening beyond loopback.",
    )
    allowed_hosts: str = Field(
        "",
        description="Without keys, host names by which requests may address the server besides localhost, "
        "comma-separated; *: any.",
    )
    max_samples: int = Field(256, ge=1, description="Maximum samples generated at once.")
    max_waiting: int = Field(2048, ge=1, description="Maximum requests in the queue; others get 429.")
    replay_s: float = Field(
        300, ge=0, description="Seconds for which a repeated request gets the same verdict."
    )
    cache_bytes: int = Field(
        2**27, ge=0, description="Maximum memory for verdicts to repeat; what no longer fits is judged again."
    )
    group_window_s: float = Field(
        5,
        ge=0,
        description="Seconds that a single response waits for the others of its group; 0: judge it alone.",
    )
    dialects: str = Field(
        "single,openrlhf,slime,engines,rerank,nemo_gym,chat",
        description="Dialects to serve, comma-separated; single: our own reward functions; engines: the "
        "reward model APIs of vLLM and SGLang.",
    )
    dialect_options: str = Field(
        "",
        description="Default dialect options for clients that set none in the URL, such as k=4&group=16.",
    )
    drain_s: int = Field(30, ge=0, description="Seconds that requests may take to finish after SIGTERM.")
    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="Maximum request body; larger ones get 413.")
    max_batch_bytes: int = Field(2**28, ge=1024, description="Maximum body of a batch request.")
    max_text_chars: int = Field(
        200_000, ge=1, description="Maximum length of a single text in a request; longer ones get 422."
    )
    max_prompt_chars: int = Field(
        2**25,
        ge=1,
        description="Maximum characters of the prompts of all samples of a request (more get 422), and of "
        "all prompts at once.",
    )


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
