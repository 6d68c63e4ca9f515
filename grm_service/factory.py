"""Build a service from settings: catalog, default profile, engine, meta RM, audit trail, policy."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from grm_service.addresses import without_credentials
from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from grm_service.engines.base import Engine, MetaRM
from grm_service.engines.choice import choose_engine, embedded_meta_rm
from grm_service.engines.files.source import ModelSource
from grm_service.errors import BadSetting, ModelNotLoaded
from grm_service.improving.policy import Policy
from grm_service.judging.format_check import format_fault
from grm_service.profiles.catalog import Catalog, load_catalog, load_profile, mismatch
from grm_service.profiles.profile import Profile
from grm_service.profiles.yaml import is_yaml
from grm_service.serving.service import Limits, Service
from grm_service.settings import Settings

logger = logging.getLogger(__name__)


def open_catalog(settings: Settings) -> Catalog:
    """Return the shipped profiles and principle sets and the operator's own. Raises CatalogError."""
    return load_catalog(settings.models_dir, settings.principles_dir, format_fault)


def open_service(settings: Settings) -> Service:
    """Return a service that is not started. Raises CatalogError, UnknownName, ModelNotLoaded."""
    catalog = open_catalog(settings)
    profile = default_profile(settings, catalog)
    engine, why = _engine(settings, profile)
    meta_rm = _meta_rm(settings, profile)
    return Service(catalog, profile, engine, why, open_trail(settings), limits_of(settings), meta_rm)


def limits_of(settings: Settings) -> Limits:
    """Return the limits of a service."""
    return Limits(
        text_chars=settings.max_text_chars,
        samples=settings.max_samples,
        waiting=settings.max_waiting,
        replay_s=settings.replay_s,
        prompt_chars=settings.max_prompt_chars,
        cache_bytes=settings.cache_bytes,
    )


def open_policy(settings: Settings, service: Service) -> Policy:
    """Return the policy that writes drafts, not started. Raises BadSetting."""
    if settings.policy_url is None:
        if settings.policy_model or settings.policy_api_key:
            raise BadSetting("GRM_POLICY_MODEL and GRM_POLICY_API_KEY need GRM_POLICY_URL")
        return Policy(service)
    from grm_service.engines.remote.openai import OpenAIEngine

    return Policy(service, OpenAIEngine(settings.policy_url, settings.policy_model, settings.policy_api_key))


def open_trail(settings: Settings) -> Trail:
    """Return the audit trail, not opened. Raises AuditUnavailable."""
    store = Store(settings.audit_url, settings.audit_key_file)
    return Trail(store, settings.audit_text, settings.audit_keep_days)


def default_profile(settings: Settings, catalog: Catalog) -> Profile:
    """Return the default profile, by name or from a YAML file such as that of a training run."""
    name = settings.profile
    profile = load_profile(Path(name), format_fault) if is_yaml(name) else catalog.profile(name)
    if settings.model:
        profile = replace(profile, model=settings.model, gguf=None, adapter=None)
    meta_rm = settings.meta_rm or profile.meta_rm or without_credentials(settings.meta_rm_url or "") or None
    return replace(profile, meta_rm=meta_rm)


def default_source(settings: Settings) -> tuple[Profile, ModelSource]:
    """Return the default profile and its model, for training. Raises CatalogError, ModelNotLoaded."""
    profile = default_profile(settings, open_catalog(settings))
    return profile, ModelSource.from_profile(profile, settings.cache_dir)


def _engine(settings: Settings, profile: Profile) -> tuple[Engine, str]:
    if settings.engine == "scripted":
        from grm_service.engines.scripted import ScriptedEngine

        return ScriptedEngine(settings.script), "configured"
    if settings.engine == "openai":
        if profile.adapter:
            logger.warning(
                "the profile %s is for a model of its own, which %s may not serve: choose the profile of the "
                "model that it serves, such as --profile generic-judge",
                profile.name,
                without_credentials(settings.openai_base_url or ""),
            )
        return _remote(settings), "configured"
    source = ModelSource.from_profile(profile, settings.cache_dir)
    if (warning := mismatch(profile, source.path)) is not None:
        logger.warning(warning)
    return choose_engine(settings.engine, source, settings.kv_cache_gb, settings.precision)


def _meta_rm(settings: Settings, profile: Profile) -> MetaRM | None:
    """Return the profile's meta RM: on its server if one is set, else embedded if the engine is or if set."""
    if settings.meta_rm_url:
        from grm_service.engines.meta_rm import ClassifyMetaRM

        return ClassifyMetaRM(settings.meta_rm_url, settings.meta_rm, settings.meta_rm_api_key)
    if profile.meta_rm is None:
        return None
    if settings.meta_rm is None and settings.engine in ("openai", "scripted"):
        logger.warning(
            "the meta RM %s of the profile %s does not run here (set GRM_META_RM_URL for its server, or "
            "GRM_META_RM to load it on this machine): all samples are voted, and k_meta is rejected",
            profile.meta_rm,
            profile.name,
        )
        return None
    if (warning := mismatch(profile, Path(profile.meta_rm).expanduser())) is not None:
        logger.warning(warning)
    return embedded_meta_rm(profile.meta_rm)


def _remote(settings: Settings) -> Engine:
    from grm_service.engines.remote.openai import OpenAIEngine
    from grm_service.engines.remote.pool import PoolEngine

    urls = [url.strip() for url in (settings.openai_base_url or "").split(",") if url.strip()]
    if not urls:
        raise ModelNotLoaded("the openai engine needs GRM_OPENAI_BASE_URL, such as http://127.0.0.1:8001/v1")
    engines = {
        without_credentials(url): OpenAIEngine(
            url,
            settings.openai_model,
            settings.openai_api_key,
            connections=settings.openai_connections,
        )
        for url in urls
    }
    return PoolEngine(engines) if len(engines) > 1 else next(iter(engines.values()))
