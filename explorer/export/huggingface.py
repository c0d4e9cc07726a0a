"""Hugging Face: a sub-network of a model of transformers as one of its own configuration, which that library loads."""

from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.export.architecture import configured
from explorer.export.onnx import TOLERANCE
from explorer.pruning.surgery.stand_ins import Skip
from explorer.utils.modules import device_of, modes_restored, run
from explorer.utils.programs import difference
from explorer.utils.quiet import quiet
from spaces import PruningError, first_line

__all__ = ["FOLDER", "Saving", "described", "is_transformers", "save_huggingface", "standalone"]

FOLDER = "hf"
"""The folder in an export that transformers loads."""

# what lies beside a model's weights and is the same for a smaller one; copied, so that none of it is run
_BESIDE = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def is_transformers(module: nn.Module) -> bool:
    """Tell whether a module is a model of transformers, which is not imported for it."""
    # not the library itself, which imports its parts when they are asked for: that may fail where torchvision does
    library = sys.modules.get("transformers.modeling_utils")
    return library is not None and isinstance(module, library.PreTrainedModel)


def standalone(module: nn.Module, example: Any = None) -> Any:
    """Return a sub-network as a model of its class and a configuration of its own, in eval mode on the CPU.

    Layers that are left out are not there, so that others may have another number.

    Parameters
    ----------
    module
        A sub-network of a model of transformers, in eval mode; not changed.
    example
        An input, on which both compute the same; None for some tokens or a blank image.

    Raises
    ------
    PruningError
        If the module is none of transformers, or no configuration says what its widths are.
    """
    if not is_transformers(module):
        raise PruningError(f"hf: the model is a {type(module).__name__}, allowed are those of transformers")
    given: Any = module
    example = _any_input(given) if example is None else example
    config, lists = configured(given)
    _check_numbers(config)
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    state = {new: tensor for name, tensor in tensors.items() if (new := lists.name(name)) is not None}
    try:
        with quiet():
            plain, report = type(given).from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=given.dtype,
                attn_implementation=given.config._attn_implementation,
                output_loading_info=True,
            )
    except Exception as error:  # of somebody's code
        raise PruningError(f"hf: transformers can't build the sub-network ({first_line(error)[:200]})") from None
    if missing := [name for part in ("missing_keys", "mismatched_keys") for name in report[part]]:
        raise PruningError(f"hf: transformers does not take {missing[0]!s} of the sub-network")
    plain.eval()
    far = _apart(plain.to(device_of(module)), module, example)
    if far > TOLERANCE:
        raise PruningError(
            f"hf: a model that {type(config).__name__} makes computes something else (outputs differ by {far:.2g}), as "
            "where its code scales by a width or treats layers by their place"
        )
    plain.cpu()
    _as_it_generates(plain, given)
    return plain


def save_huggingface(module: nn.Module, folder: Path, example: Any) -> None:
    """Write a sub-network as a folder that ``from_pretrained`` of transformers loads, which is tried.

    A tokenizer and the like that lie beside the dense network's weights are copied.

    Raises
    ------
    PruningError
        As `standalone`, and if what is loaded computes something else.
    """
    plain = standalone(module, example)
    try:
        with quiet():
            plain.save_pretrained(folder)
            again = type(plain).from_pretrained(folder)
    except OSError:
        # a full disk, which the export tells of
        raise
    except Exception as error:  # of somebody's code
        raise PruningError(f"hf: transformers can't load the sub-network ({first_line(error)[:200]})") from None
    far = _apart(again.eval().to(device_of(module)), module, example)
    if far > TOLERANCE:
        raise PruningError(f"hf: what transformers loads from the folder computes something else (by {far:.2g})")
    source = Path(getattr(module, "name_or_path", "") or getattr(module.config, "name_or_path", "") or "-")
    for name in _BESIDE:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def described(module: nn.Module, example: Any) -> None:
    """Let a sub-network of transformers say itself what it is, as far as configurations can.

    Its ``save_pretrained`` writes what `standalone` returns, or raises why there is none. Its ``config`` has its
    widths, unless layers are left out, which it still counts.
    """
    vars(module)["save_pretrained"] = Saving(module, example)
    if any(isinstance(part, Skip) for part in module.modules()):
        return
    try:
        plain = standalone(module, example)
    except PruningError:
        # said where it is saved
        return
    parts = [(vars(module.get_submodule(name)), part.config) for name, part in plain.named_modules() if _has_own(part)]
    before = [numbers["config"] for numbers, _ in parts]
    for numbers, config in parts:
        numbers["config"] = config
    if _apart(plain.to(device_of(module)), module, example) > TOLERANCE:
        for (numbers, _), config in zip(parts, before, strict=True):
            numbers["config"] = config


class Saving:
    """The ``save_pretrained`` of a sub-network, which goes with its copies.

    Parameters
    ----------
    module, example
        See `standalone`.
    """

    def __init__(self, module: nn.Module, example: Any = None) -> None:
        self.module, self.example = module, example

    def __call__(self, folder: str | Path, **options: Any) -> None:
        """Write the sub-network as it is now; options are those of transformers."""
        with modes_restored(self.module):
            plain = standalone(self.module.eval(), self.example)
        plain.save_pretrained(folder, **options)


def _check_numbers(config: Any) -> None:
    """Check that a configuration can be read again: some ask of their numbers what the model's code does not.

    Raises
    ------
    PruningError
        If it can't; the message has the library's reason.
    """
    try:
        with quiet():
            type(config).from_dict(config.to_dict())
    except Exception as error:  # of somebody's code
        reason = first_line(error.__cause__ or error)[:200]
        raise PruningError(f"hf: {type(config).__name__} refuses the sub-network's numbers ({reason})") from None


def _any_input(module: Any) -> Any:
    """Return an input of a model of transformers.

    Raises
    ------
    PruningError
        If it takes neither tokens nor images.
    """
    if module.main_input_name == "input_ids":
        return {name: tensor.to(module.device) for name, tensor in module.dummy_inputs.items()}
    size = getattr(module.config, "image_size", None)
    if module.main_input_name != "pixel_values" or size is None:
        raise PruningError(f"hf: a {type(module).__name__} takes {module.main_input_name}, of which it has no example")
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return torch.zeros(1, module.config.num_channels, height, width, dtype=module.dtype, device=module.device)


def _apart(plain: Any, module: nn.Module, example: Any) -> float:
    with torch.inference_mode():
        return difference(run(plain, example), run(module, example))


def _has_own(part: nn.Module) -> bool:
    return "config" in vars(part)


def _as_it_generates(plain: Any, module: Any) -> None:
    """Give a model the settings by which the dense network generates, with its cache on: tracing has no use for it."""
    if not plain.can_generate():
        return
    plain.generation_config = copy.deepcopy(module.generation_config)
    for settings in (plain.config, plain.generation_config):
        if getattr(settings, "use_cache", None) is False:
            settings.use_cache = True
