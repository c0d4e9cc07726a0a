"""Networks of other libraries: torchvision, timm and transformers, imported when they are asked for.

They are built from their configuration, without a download. ``pretrained`` is what ``model.weights=hub`` sets: the
library's own weights are loaded once, from its cache or over the network.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.utils.gguf import gguf_options
from spaces.errors import PruningError, first_line, unknown

__all__ = ["timm", "torchvision", "transformers"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class _Auto:
    """A factory of transformers, the table of the configurations it knows, and whether it is for images."""

    factory: str
    models: str
    images: bool = False


_TASKS = {
    "classification": (
        _Auto("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING", images=True),
        _Auto("AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING"),
    ),
    "causal-lm": (_Auto("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING"),),
}


def torchvision(
    *, architecture: str, num_classes: int = 1000, in_channels: int = 3, pretrained: bool = False, **options: Any
) -> nn.Module:
    """Return an image classifier of torchvision, for images of three channels.

    Parameters
    ----------
    architecture
        A name of ``torchvision.models.list_models()``, such as ``resnet50``.
    num_classes, in_channels
        Width of the output and of the input; the latter is 3.
    pretrained
        Load torchvision's default weights.
    options
        Further arguments of torchvision's factory.

    Raises
    ------
    PruningError
        If torchvision is missing, the name is unknown, or the weights can't be loaded.
    """
    library = _library("torchvision.models")
    _known(architecture, library.list_models(module=library))
    if in_channels != 3:
        raise PruningError(f"model: {architecture} of torchvision reads 3 channels, the data has {in_channels}")
    options["num_classes"] = num_classes
    if not pretrained:
        return library.get_model(architecture, weights=None, **options)
    return _from_hub(architecture, lambda: library.get_model(architecture, weights="DEFAULT", **options))


def timm(
    *, architecture: str, num_classes: int = 1000, in_channels: int = 3, pretrained: bool = False, **options: Any
) -> nn.Module:
    """Return an image classifier of timm.

    Parameters
    ----------
    architecture
        A name of ``timm.list_models()``, such as ``convnext_atto``.
    num_classes, in_channels
        Width of the output and of the input.
    pretrained
        Load timm's weights, which must have as many classes.
    options
        Further arguments of ``timm.create_model``, such as ``img_size``.

    Raises
    ------
    PruningError
        If timm is missing, the name is unknown, or the weights can't be loaded.
    """
    library = _library("timm")
    _known(architecture, library.list_models())
    options |= {"num_classes": num_classes, "in_chans": in_channels}
    if not pretrained:
        return library.create_model(architecture, **options)
    published = library.get_pretrained_cfg(architecture)
    if published is not None and published.hf_hub_id:
        _ask_hub(published.hf_hub_id)
    model = _from_hub(architecture, lambda: library.create_model(architecture, pretrained=True, **options))
    classes = model.pretrained_cfg["num_classes"]
    if classes != num_classes:
        # timm would leave the head untrained
        raise PruningError(f"model.weights: those of {architecture} know {classes} classes, the data has {num_classes}")
    return model


def transformers(
    *,
    architecture: str,
    task: str = "classification",
    num_classes: int = 2,
    in_channels: int = 3,
    config: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    pretrained: bool = False,
) -> nn.Module:
    """Return a model of transformers; its output has the logits as ``.logits``.

    Parameters
    ----------
    architecture
        A model type such as ``distilbert`` or ``vit``, a folder with a ``config.json``, a GGUF file, or a name on the
        hub with a slash in it, whose configuration is then read from there.
    task
        ``classification`` of images or text, or ``causal-lm``: to predict the next token.
    num_classes
        Width of a classifier's output.
    in_channels
        Of images; text has none.
    config
        Values of the configuration that differ from its own.
    dtype
        Of the weights: ``float32`` or ``bfloat16``.
    pretrained
        Load the weights of the folder, file or name on the hub, which must have the classifier's. Those of a GGUF file
        are no longer quantised then.

    Raises
    ------
    PruningError
        If transformers is missing, the architecture is unknown or not for the task, or the weights can't be loaded.
    """
    library = _library("transformers")
    if task not in _TASKS:
        raise unknown("model.task", task, _TASKS)
    if dtype not in _DTYPES:
        raise unknown("model.dtype", dtype, _DTYPES)
    values = {**(config or {}), **({"num_labels": num_classes} if task == "classification" else {})}
    if pretrained and architecture in library.CONFIG_MAPPING and not _is_folder(architecture):
        raise PruningError(f"model.weights: {architecture!r} has no weights, allowed: a folder or a name on the hub")
    found = _configuration(library, architecture, values)
    auto = next((kind for kind in _TASKS[task] if type(found) in getattr(library, kind.models)), None)
    if auto is None:
        what = "classifies neither images nor text" if task == "classification" else "predicts no next token"
        raise PruningError(f"model.architecture: {architecture!r} of transformers {what}")
    factory = getattr(library, auto.factory)
    # what is explored has no use for the keys and values it would return, all of which then could not be pruned
    found.use_cache = False
    if task == "classification":
        # some models have several classifiers, of which a configuration without names means the first
        found.architectures = found.architectures or []
        if auto.images:
            found.num_channels = in_channels
        elif getattr(found, "pad_token_id", None) is None:
            # text of one length needs no padding, but a classifier of several texts asks for its mark
            found.pad_token_id = 0
    if not pretrained:
        return _made(found, factory).to(_DTYPES[dtype])
    place, options = gguf_options(architecture, "model.architecture")

    def load() -> tuple[nn.Module, Mapping[str, Any]]:
        # from files that are mapped into memory, straight into the type that is asked for
        with _without_bars(library):
            return factory.from_pretrained(
                place, config=found, dtype=_DTYPES[dtype], output_loading_info=True, **options
            )

    model, report = _from_hub(architecture, load)
    if missing := sorted(report["missing_keys"]):
        raise PruningError(f"model.weights: those of {architecture} lack {missing[0]!r} (and {len(missing) - 1} more)")
    if not options:
        return model
    # transformers takes what it read for quantised still, and saves no such model
    plain = _made(found, factory).to(_DTYPES[dtype])
    plain.load_state_dict(model.state_dict())
    return plain.eval()


def _made(configuration: Any, factory: Any) -> nn.Module:
    """Return a model of a configuration; where its own code can't be imported, say what is at the bottom of it."""
    try:
        return factory.from_config(configuration)
    except ModuleNotFoundError as error:
        cause: BaseException = error
        while (deeper := cause.__cause__ or cause.__context__) is not None:
            cause = deeper
        line = first_line(cause)[:200]
        raise PruningError(
            f"model: transformers can't import {configuration.model_type} ({type(cause).__name__}: {line}); where that "
            "is torchvision's, pip uninstall torchvision or install the one for this torch"
        ) from None


def _configuration(library: Any, architecture: str, values: Mapping[str, Any]) -> Any:
    """Return the configuration of a folder, of a model type or of a name on the hub, with some values replaced."""
    known = library.CONFIG_MAPPING
    # a folder may be called as a model type is
    if architecture in known and not _is_folder(architecture):
        kind = known[architecture]
        _check_keys(kind(), values)
        return kind(**values)
    place, options = gguf_options(architecture, "model.architecture")
    if not options and not _is_folder(architecture) and "/" not in architecture:
        raise unknown("model.architecture", architecture, sorted(known))
    folder = Path(place).expanduser()
    local = folder.is_dir()
    if not local:
        _ask_hub(architecture)
    read = library.AutoConfig.from_pretrained
    found = _from_hub(architecture, lambda: read(str(folder) if local else place, local_files_only=local, **options))
    _check_keys(found, values)
    found.update(values)
    return found


@contextmanager
def _without_bars(library: Any) -> Iterator[None]:
    """Silence transformers' bars of progress, which the explorer's own would stand beside."""
    logs = library.utils.logging
    shown = logs.is_progress_bar_enabled()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logs.enable_progress_bar()


def _is_folder(architecture: str) -> bool:
    return (Path(architecture).expanduser() / "config.json").is_file()


def _check_keys(configuration: Any, values: Mapping[str, Any]) -> None:
    """Refuse what the configuration has no value for; it would take anything."""
    allowed = [*configuration.to_dict(), "num_labels"]
    for key in values:
        if key not in allowed and not hasattr(configuration, key):
            raise unknown("model.config", key, allowed)


def _library(name: str) -> Any:
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise PruningError(f"model: {package} needs {error.name}, pip install {error.name}") from None
        raise PruningError(f"model: {package} is not installed, pip install {package}") from None
    except Exception as error:  # compiled parts made for another torch raise what they like
        raise PruningError(f"model: {package} can't be imported ({_line(error)}), pip install it anew") from error


def _known(architecture: str, allowed: Collection[str]) -> None:
    if architecture not in allowed:
        raise unknown("model.architecture", architecture, sorted(allowed))


def _from_hub(architecture: str, load: Callable[[], Any]) -> Any:
    """Return what `load` reads, with its one try."""
    try:
        return load()
    except Exception as error:  # of four libraries
        line = f"{type(error).__name__}: {_line(error)}"
        raise PruningError(f"model.weights: those of {architecture!r} can't be read ({line})") from error


def _ask_hub(name: str) -> None:
    """Refuse a model that the hub of Hugging Face does not give, before its libraries try for half a minute."""
    hub = _library("huggingface_hub")
    try:
        hub.HfApi().model_info(name, timeout=10)
    except hub.errors.OfflineModeIsEnabled:
        return
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__  # type: ignore[assignment]
        raise PruningError(
            f"model.weights: {name!r} can't be had from the hub ({_line(error)}); give a local file or folder, or "
            "HF_HUB_OFFLINE=1 to use an earlier download"
        ) from error


def _line(error: Exception) -> str:
    return first_line(error)[:200]
