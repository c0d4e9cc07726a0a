"""ONNX: a sub-network as a file that needs neither torch nor this package, checked against the module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.data import Batch, head, moved
from explorer.utils.modules import run
from explorer.utils.programs import OnnxModule, Program, difference, write_onnx
from explorer.utils.quiet import quiet
from spaces import PruningError, first_line

__all__ = ["TOLERANCE", "checked_onnx", "quantized"]

TOLERANCE = 1e-4
"""By which ONNX Runtime's outputs may differ from torch's, relative to the greatest."""
# inputs that outputs are compared on
_CHECKED = 8


def checked_onnx(module: nn.Module, program: Program, inputs: Any, path: Path) -> tuple[OnnxModule, float]:
    """Write a module's program as an ONNX file; return it read back, and how far its outputs are from torch's.

    Parameters
    ----------
    module
        On the CPU, in eval mode.
    program
        What `program_of` made of it.
    inputs
        A batch that outputs are compared on.
    path
        The file; removed again if it does not compute what the module does.

    Raises
    ------
    PruningError
        If the program uses an operator that ONNX has not, or ONNX Runtime's outputs differ from torch's.
    """
    write_onnx(program, path)
    some = head(inputs, _CHECKED)
    try:
        found = OnnxModule(path, program)
        with torch.inference_mode():
            far = difference(run(found, some), run(module, some))
    except Exception as error:
        path.unlink()
        raise PruningError(f"onnx: ONNX Runtime can't run the file ({first_line(error)[:200]})") from None
    if far > TOLERANCE:
        path.unlink()
        raise PruningError(f"onnx: ONNX Runtime's outputs differ from torch's by {far:.2g}, allowed is {TOLERANCE:g}")
    return found, far


def quantized(source: OnnxModule, path: Path, program: Program, batches: Sequence[Batch], target: Path) -> OnnxModule:
    """Write an ONNX file whose products are of 8-bit integers, and return it read back.

    Weights have a scale a channel, activations one a tensor, from the least and the greatest value on some batches;
    what is quantised stands between pairs of QuantizeLinear and DequantizeLinear.

    Parameters
    ----------
    source, path, program
        The float network, its file and what that was written from.
    batches
        Inputs and targets, of which the inputs calibrate.
    target
        The file to write.

    Raises
    ------
    PruningError
        If ONNX Runtime can't quantise it.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """Gives batches one after the other."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> Any:
            batch = next(self.left, None)
            return None if batch is None else source.named(moved(batch, "cpu")[0])

    folded = target.with_name("folded.onnx")
    try:
        with quiet():
            # batch norms are folded into convolutions before those are quantised
            quant_pre_process(str(path), str(folded), skip_symbolic_shape=True)
            quantize_static(
                str(folded),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
        return OnnxModule(target, program)
    except Exception as error:
        target.unlink(missing_ok=True)
        raise PruningError(f"int8: ONNX Runtime can't quantise it ({first_line(error)[:200]})") from None
    finally:
        folded.unlink(missing_ok=True)
