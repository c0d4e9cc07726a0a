"""Folders from somebody else: none of their code runs, and one line says what was refused and how to allow it."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer import models
from explorer.export.trust import check_factory
from explorer.pruning.criteria import score
from explorer.pruning.pruner import Pruner
from explorer.tracing import trace
from spaces import Network, PruningError, Recipe


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def small() -> tuple[nn.Module, Recipe, Network]:
    torch.manual_seed(0)
    model = Net().eval()
    network = trace(model, X[:1])
    recipe = Recipe.of({"a": 0.5})
    return Pruner(model, network, score(model, network))(recipe)[0], recipe, network


def saved(folder: Path, factory: str | None = f"{__name__}.Net") -> nn.Module:
    module, recipe, network = small()
    explorer.save(module, recipe, network, folder, factory=factory, example=X[:1])
    return module


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def _named(folder: Path, mark: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _calls_the_system(folder: Path, mark: Path) -> None:
    _named(folder, mark, factory="os.system", arguments={"command": f"touch {mark}"})


def _goes_through_our_own(folder: Path, mark: Path) -> None:
    inner = {"target": "os.system", "arguments": {"command": f"touch {mark}"}}
    _named(folder, mark, factory="explorer.models.factory.build_model", arguments=inner)


def _goes_through_our_imports(folder: Path, mark: Path) -> None:
    _named(folder, mark, factory="explorer.models.factory.called.__globals__", arguments={})


def _is_no_text(folder: Path, mark: Path) -> None:
    _named(folder, mark, factory=["os", "system"])


def _runs_when_it_is_imported(folder: Path, mark: Path) -> None:
    (folder / "evil_when_imported.py").write_text(f"open({str(mark)!r}, 'w')\ndef net(): pass\n")
    _named(folder, mark, factory="evil_when_imported.net", arguments={})


def _reads_other_weights(folder: Path, mark: Path) -> None:
    _named(folder, mark, factory="explorer.models.torchvision", arguments={"architecture": "x", "pretrained": True})


def _is_a_pickle(folder: Path, mark: Path) -> None:
    (folder / "weights.safetensors").write_bytes(pickle.dumps(Payload(mark)))


def _yaml_makes_objects(folder: Path, mark: Path) -> None:
    (folder / "recipe.yaml").write_text(f"!!python/object/apply:os.system ['touch {mark}']\n")


def _network_makes_objects(folder: Path, mark: Path) -> None:
    (folder / "network.yaml").write_text(f"!!python/object/apply:os.system ['touch {mark}']\n")


def _has_a_pickle_in_its_program(folder: Path, mark: Path) -> None:
    saved(folder, None)
    path = folder / "program.pt2"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    stem = next(iter(parts)).partition("/")[0]
    content = io.BytesIO()
    torch.save(Payload(mark), content)
    parts[f"{stem}/data/sample_inputs/model.pt"] = content.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def _keeps_what_is_not_there(folder: Path, mark: Path) -> None:
    _named(folder, mark, kept={"a": [0, 1, 2, 99]})


HOSTILE = {
    _calls_the_system: r"factory: 'os.system' of model.json would be imported and run; .*allow=\['os'\]",
    _goes_through_our_own: r"factory: 'explorer.models.factory.build_model' .*allow=",
    _goes_through_our_imports: "factory: 'explorer.models.factory.called.__globals__' ",
    _is_no_text: r"factory: .*is no import path",
    _runs_when_it_is_imported: "factory: 'evil_when_imported.net' .*would be imported",
    _reads_other_weights: "factory: pretrained=True of model.json",
    _is_a_pickle: "holds no export",
    _yaml_makes_objects: "holds no export",
    _network_makes_objects: "holds no export",
    _has_a_pickle_in_its_program: r"holds a program, .*trust=True",
    _keeps_what_is_not_there: "holds no export .*other atoms",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_a_hostile_folder_runs_nothing(change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, mark = tmp_path / "folder", tmp_path / "MARK"
    saved(folder)
    monkeypatch.syspath_prepend(str(folder))
    change(folder, mark)
    with pytest.raises(PruningError, match=HOSTILE[change]) as caught:
        explorer.load(folder)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert "evil_when_imported" not in sys.modules


@pytest.mark.parametrize("allow", [[__name__], [f"{__name__}.Net"], __name__, [__name__.rpartition(".")[0]]])
def test_what_the_caller_allows_is_loaded(allow, tmp_path: Path) -> None:
    module = saved(tmp_path)
    torch.testing.assert_close(explorer.load(tmp_path, allow=allow)(X), module(X))
    torch.testing.assert_close(explorer.load(tmp_path, model=Net())(X), module(X))
    for other in ([], ["tests.export.test_trus"], ["Net"]):
        with pytest.raises(PruningError, match=re.escape(f"allow=['{__name__}']")):
            explorer.load(tmp_path, allow=other)


def test_a_program_has_no_sample_inputs_and_is_read_on_trust(tmp_path: Path) -> None:
    module = saved(tmp_path, None)
    assert X[:1].numpy().tobytes() not in (tmp_path / "program.pt2").read_bytes()
    torch.testing.assert_close(explorer.load(tmp_path, trust=True)(X), module(X))
    (tmp_path / "program.pt2").write_bytes(b"torn")
    with pytest.raises(PruningError, match=r"program: .*can't be read"):
        explorer.load(tmp_path, trust=True)


KNOWN = [
    *(f"explorer.models.{name}" for name in models.MODELS),
    "explorer.models.resnet.resnet20",
    "explorer.models.timm",
    "explorer.models.zoo.transformers",
    "torchvision.models.resnet18",
    "torchvision.models.resnet.ResNet",
    "timm.models.resnet.resnet18",
    "transformers.ViTForImageClassification",
]
UNKNOWN = [
    "torchvision.models.get_model_weights",
    "torchvision.models._api.get_weight",
    "timm.models.load_checkpoint",
    "transformers.AutoModel.from_pretrained",
    "transformers.pipeline",
    "explorer.models.load_weights",
    "explorer.models.build",
    "explorer.export.files.load",
    "explorer.models",
    "nn",
    "",
]


@pytest.mark.parametrize("factory", KNOWN)
def test_networks_of_known_libraries_are_built(factory: str) -> None:
    home, _, path = factory.partition(".models.") if ".models." in factory else factory.partition(".")
    try:
        found = importlib.import_module(f"{home}.models" if ".models." in factory else home)
        for name in path.split("."):
            found = getattr(found, name)
    except Exception as error:  # of libraries that are not there, or made for another torch
        pytest.skip(f"{home} can't be imported ({type(error).__name__})")
    check_factory(factory, {})


@pytest.mark.parametrize("factory", UNKNOWN)
def test_nothing_else_of_them_is_called(factory: str) -> None:
    with pytest.raises(PruningError, match=r"allow=\["):
        check_factory(factory, {})
