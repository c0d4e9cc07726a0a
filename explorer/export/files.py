"""Export: one sub-network as files, and back without the dense network."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from explorer.export.huggingface import Saving, is_transformers
from explorer.export.program import load_program, save_program
from explorer.export.shortcuts import index_names, kept_of, passed_on
from explorer.export.target import check_target, replaced
from explorer.export.trust import check_factory
from explorer.models.factory import build_model
from explorer.pruning.patterns import Mask, Masks, gemm_of, put_on, weight_of
from explorer.pruning.sparse import execute
from explorer.pruning.sparse.encoding import decode, encode
from explorer.pruning.surgery import Surgeon
from explorer.utils.files import atomic
from explorer.utils.keywords import known_keywords
from explorer.utils.modules import tensors_of
from explorer.utils.programs import Program, program_of
from spaces import Gemm, Layer, Network, Pattern, PruningError, Recipe, first_line

__all__ = ["load", "save", "write"]


@known_keywords
def save(
    module: nn.Module,
    recipe: Recipe,
    network: Network,
    folder: Path,
    *,
    masks: Masks | None = None,
    factory: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    example: Any = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a sub-network so that `load` gives it back.

    Parameters
    ----------
    module
        The sub-network.
    recipe, network
        What it is and of what.
    folder
        Created if it is not there; an export that it holds is replaced. Gets recipe.yaml, network.yaml,
        weights.safetensors, model.json and, where there is no factory, program.pt2.
    masks
        The masks of the recipe's patterns. Their weights are written in the encoding that takes least bytes.
    factory, arguments
        Import path of what makes the dense model, and its keyword arguments.
    example
        One input, from which the program is exported where there is no factory. Its other dimensions than the batch
        are the program's.
    facts
        JSON-safe values that model.json keeps beside.

    Raises
    ------
    PruningError
        If there is neither a factory nor an example, a pattern of the recipe has no mask, or the folder holds anything
        else or can't be written.
    """
    if factory is None and example is None:
        raise PruningError("export: a model without an import path needs an example input to be exported as a program")
    check_target(Path(folder))
    program = program_of(module, example) if factory is None else None
    with replaced(Path(folder)) as temporary:
        write(
            module,
            recipe,
            network,
            temporary,
            masks=masks or {},
            factory=factory,
            arguments=arguments or {},
            program=program,
            facts=facts or {},
        )


def write(
    module: nn.Module,
    recipe: Recipe,
    network: Network,
    folder: Path,
    *,
    masks: Masks,
    factory: str | None,
    arguments: Mapping[str, Any],
    program: Program | None,
    facts: Mapping[str, Any],
) -> None:
    """Write the files of `save` to a folder that is there, the program wherever there is one."""
    recipe = recipe.canonical(network)
    for name, _ in recipe.weights:
        if name not in masks:
            raise PruningError(f"masks: none for {name}, and the recipe has a pattern for it")
    kept = passed_on(module, network, recipe)
    # made again by what is kept
    indices = index_names(module, network, recipe, kept)
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in tensors_of(module).items() if name not in indices
    }
    encodings = {}
    for name, (pattern, mask) in masks.items():
        layer = network.layer[name]
        gemm, kernel = gemm_of(network, layer, tensors[layer.weight]), Gemm.of(network, layer).kernel
        encoding, parts = encode(gemm, mask, pattern, kernel)
        if encoding != "dense":
            del tensors[layer.weight]
            tensors |= {f"{layer.weight}.{part}": tensor.contiguous() for part, tensor in parts.items()}
            encodings[name] = encoding
    record = {"factory": factory, "arguments": dict(arguments), "encodings": encodings, "kept": kept, **facts}
    with atomic(folder / "weights.safetensors") as temporary:
        save_file(tensors, temporary)
    with atomic(folder / "recipe.yaml") as temporary:
        temporary.write_text(recipe.to_yaml())
    with atomic(folder / "network.yaml") as temporary:
        network.save(temporary)
    if program is not None:
        save_program(program, folder / "program.pt2")
    with atomic(folder / "model.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1, default=_number) + "\n")


@known_keywords
def load(
    folder: str | Path,
    *,
    model: nn.Module | None = None,
    example: Any = None,
    allow: Collection[str] = (),
    trust: bool = False,
) -> nn.Module:
    """Return the sub-network that `save` wrote, in eval mode, without the dense weights and without unpickling.

    Weights with a pattern are zero where it removes them, and stay so in training. A folder that somebody else made
    runs none of its code unless `allow` or `trust` say so: networks of this project, torchvision, timm and transformers
    are built, whatever else it names is refused in one line.

    Parameters
    ----------
    folder
        An export's folder.
    model
        A dense skeleton (its weights do not matter), for a sub-network of a model without an import path;
        without it such a sub-network comes back as the module of its exported program, which cannot be trained.
    example
        An input. If given, layers with a pattern compute with it wherever that is faster on this machine for such
        inputs; the module cannot be trained then. A program computes with dense kernels anyhow.
    allow
        Import paths of the modules or functions of yours that make the dense model, such as ``["mypkg.models"]``.
    trust
        Whether an exported program may be read: torch evaluates expressions of its archive and may unpickle parts.

    Raises
    ------
    PruningError
        If the folder holds no export or names code that is not allowed, or the skeleton is not of its network.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "model.json").read_text())
        factory, arguments, encodings = record["factory"], record["arguments"], record["encodings"]
        recipe, network = Recipe.load(folder / "recipe.yaml"), Network.load(folder / "network.yaml")
        tensors = load_file(folder / "weights.safetensors")
        known = record["kept"]
        kept = kept_of(network, recipe, known)
    except Exception as error:
        line = first_line(error) or type(error).__name__
        raise PruningError(f"folder: {str(folder)!r} holds no export ({line})") from None
    if model is not None and not isinstance(model, nn.Module):
        raise PruningError(f"model: a {type(model).__name__}, needed is a module, such as Net() of a class Net")
    if model is None and factory is None:
        if not trust:
            raise PruningError(
                f"folder: {str(folder)!r} holds a program, as its model was given as an instance: load(folder, "
                "model=Net()), of the model's class, is a module to train; load(folder, trust=True) is that program, "
                "for inference alone, and reading it may run code of who wrote it"
            )
        return load_program(folder / "program.pt2")
    if model is None:
        check_factory(factory, arguments, allow)
    skeleton = _skeleton(factory, arguments) if model is None else model
    module = Surgeon(skeleton, network).build(kept, recipe.blocks)
    _decode(module, network, recipe, encodings, tensors)
    _fill(module, tensors, folder, index_names(module, network, recipe, known))
    masks = {name: _mask(network, network.layer[name], pattern, tensors) for name, pattern in recipe.weights}
    put_on(module, network, masks)
    if is_transformers(module):
        vars(module)["save_pretrained"] = Saving(module)
    return module.eval() if example is None else execute(module.eval(), masks, example).module


def _mask(
    network: Network, layer: Layer, pattern: Pattern, tensors: Mapping[str, torch.Tensor]
) -> tuple[Pattern, Mask]:
    """Return the mask that a loaded weight's zeros are."""
    if pattern.granularity == "tile_element":
        # which entries were given back to the tiles is not in the file
        pattern = Pattern("element", pattern.ratio)
    return pattern, Mask(gemm_of(network, layer, tensors[layer.weight]) != 0)


def _decode(
    module: nn.Module,
    network: Network,
    recipe: Recipe,
    encodings: Mapping[str, str],
    tensors: dict[str, torch.Tensor],
) -> None:
    """Replace the tensors of every encoding by the weight they describe."""
    for name, encoding in encodings.items():
        layer = network.layer[name]
        weight = module.get_parameter(layer.weight)
        prefix = f"{layer.weight}."
        parts = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
        groups, rows, columns = gemm_of(network, layer, weight).shape
        gemm = decode(encoding, parts, (groups, rows, columns), recipe.patterns[name], Gemm.of(network, layer).kernel)
        tensors[layer.weight] = weight_of(network, layer, gemm, weight).contiguous()


def _skeleton(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return the dense model without storage, or with it where its constructor makes tensors of its own."""
    with torch.device("meta"):
        model = build_model(factory, arguments)
    own = [v for m in model.modules() for v in vars(m).values() if isinstance(v, torch.Tensor) and v.is_meta]
    return build_model(factory, arguments) if own else model


def _fill(module: nn.Module, tensors: Mapping[str, torch.Tensor], folder: Path, made: Collection[str]) -> None:
    """Put tensors into their places but for those that were `made`; tied ones stay tied."""
    replaced: dict[int, torch.Tensor] = {}
    for name, old in tensors_of(module).items():
        new = old if name in made else tensors.get(name)
        if new is None or new.shape != old.shape:
            found = "nothing" if new is None else list(new.shape)
            raise PruningError(f"folder: {str(folder)!r} has {found} for {name}, needed is {list(old.shape)}")
        replaced[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    for part in module.modules():
        for own in (part._parameters, part._buffers):
            for key, value in own.items():
                if value is not None:
                    own[key] = replaced[id(value)]  # type: ignore[assignment]


def _number(value: Any) -> Any:
    """Return a numpy scalar as a Python number, for JSON."""
    return value.item()
