"""Write the tiny encoders that the tests use: random networks of common families, exported from their libraries.

Each folder looks like a repository of the Hugging Face hub. ``expected.npz`` holds the features that the library itself
computes for ``photos``. Run this script where torch, transformers, timm and onnx are installed:

    python tests/models/encoders/make_encoders.py
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf

OUT = Path(__file__).parent / "tiny"
SIZE, WIDTH = 32, 16
TRANSFORMER = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "mlp_ratio": 2,
    "image_size": SIZE,
    "patch_size": 8,
}


class Outputs(torch.nn.Module):
    """A network that returns some outputs of a transformers model."""

    def __init__(self, model: torch.nn.Module, names: list[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(inputs)
        return tuple(found[name] for name in self.names)


class Features(torch.nn.Module):
    """A network that returns the last feature map of a timm model."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.model.forward_features(pixels),)


def draw_photos() -> np.ndarray:
    """Smooth colours with some noise, uint8 (5, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0 : 1 : SIZE * 1j, 0 : 1 : SIZE * 1j]
    waves = [np.sin(6 * (x * a + y * b) + c) for a, b, c in rng.uniform(-2, 2, (15, 3))]
    photos = 127 + 80 * np.array(waves).reshape(5, 3, SIZE, SIZE) + rng.normal(0, 20, (5, 3, SIZE, SIZE))
    return photos.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a random share, because some are zero at first and would hide a mistake."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def export(
    network: torch.nn.Module, example: torch.Tensor, path: Path, input_name: str, names: list[str], opset: int
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network,
        (example,),
        path,
        input_names=[input_name],
        output_names=names,
        dynamic_axes={name: {0: "batch"} for name in (input_name, *names)},
        opset_version=opset,
        dynamo=False,
    )


def write(
    name: str,
    network: torch.nn.Module,
    names: list[str],
    features: Callable[[Any], torch.Tensor],
    *,
    processor: Any = None,
    config: dict[str, Any],
    opset: int,
    file: str = "onnx/model.onnx",
) -> None:
    """Write one repository, with the features that the library computes."""
    folder, photos, network = OUT / name, draw_photos(), network.eval()
    if processor is not None:
        pixels = torch.tensor(processor(list(photos), return_tensors="np")["pixel_values"])
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        (folder / "preprocessor_config.json").write_text(processor.to_json_string())
    else:
        mean, deviation = (torch.tensor(config["pretrained_cfg"][key]) for key in ("mean", "std"))
        pixels = ((torch.tensor(photos) / 255 - mean) / deviation).permute(0, 3, 1, 2)
    export(network, pixels[:2], folder / file, "pixel_values", names, opset)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    with torch.no_grad():
        np.savez_compressed(folder / "expected.npz", features=features(network(pixels)).numpy(), photos=photos)


def processor(kind: Any, **changes: Any) -> Any:
    square = {"height": SIZE, "width": SIZE}
    return kind(size=square, crop_size=square, do_resize=False, do_center_crop=False, **changes)


def class_and_patches(skipped: int) -> Callable[[Any], torch.Tensor]:
    return lambda found: torch.cat([found[0][:, 0], found[0][:, skipped:].mean(1)], dim=1)


def write_transformers() -> None:
    tokens, vector = ["last_hidden_state"], ["last_hidden_state", "pooler_output"]
    dino = tf.Dinov2Model(tf.Dinov2Config(**TRANSFORMER))
    write("dinov2", Outputs(shaken(dino), tokens), tokens, class_and_patches(1),
          processor=processor(tf.BitImageProcessorPil), config=dino.config.to_dict(), opset=17)  # fmt: skip
    registers = tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(**TRANSFORMER, num_register_tokens=4))
    # ONNX has no antialiased interpolation, and at its own size the network needs none.
    registers.embeddings.interpolate_pos_encoding = lambda *_: registers.embeddings.position_embeddings
    write("dinov2-registers", Outputs(shaken(registers), tokens), tokens, class_and_patches(5),
          processor=processor(tf.BitImageProcessorPil), config=registers.config.to_dict(), opset=18)  # fmt: skip
    vit = tf.ViTModel(tf.ViTConfig(**TRANSFORMER), add_pooling_layer=False)
    write("vit", Outputs(shaken(vit), tokens), tokens, class_and_patches(1),
          processor=processor(tf.ViTImageProcessorPil), config=vit.config.to_dict(), opset=14)  # fmt: skip
    siglip = tf.SiglipVisionModel(tf.SiglipVisionConfig(**TRANSFORMER))
    write("siglip2", Outputs(shaken(siglip), vector), vector, lambda found: found[1],
          processor=processor(tf.SiglipImageProcessorPil), config={"vision_config": siglip.config.to_dict()},
          opset=16, file="onnx/vision_model.onnx")  # fmt: skip
    names = ["image_embeds", "last_hidden_state"]
    clip = tf.CLIPVisionModelWithProjection(tf.CLIPVisionConfig(**TRANSFORMER, projection_dim=12))
    write("clip", Outputs(shaken(clip), names), names, lambda found: found[0],
          processor=processor(tf.CLIPImageProcessorPil), config={"vision_config": clip.config.to_dict()},
          opset=14, file="onnx/vision_model.onnx")  # fmt: skip
    convnext = tf.ConvNextV2Model(
        tf.ConvNextV2Config(hidden_sizes=[8, 16, 24], depths=[1, 1, 1], num_stages=3, image_size=SIZE)
    )
    write("convnextv2", Outputs(shaken(convnext), tokens), tokens, lambda found: found[0].mean((2, 3)),
          processor=processor(tf.ConvNextImageProcessorPil), config=convnext.config.to_dict(), opset=13)  # fmt: skip


def write_timm() -> None:
    import timm
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.mobilenetv3 import MobileNetV3

    pixels = {"input_size": [3, SIZE, SIZE], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    config = {"pretrained_cfg": {**pixels, "license": "apache-2.0"}}
    blocks = decode_arch_def([["uir_r1_a5_k5_s2_e2_c16"], ["uir_r1_a0_k3_s2_e2_c16"], ["cn_r1_k1_s1_c24"]])
    mobilenet = MobileNetV3(blocks, num_classes=0, stem_size=8, num_features=20, fix_stem=True, head_norm=True)
    write("mobilenetv4", shaken(mobilenet), ["output"], lambda found: found, config=config, opset=15,
          file="model.onnx")  # fmt: skip
    stages = {f"stage{i}": (8 * i, 8, 8 * i + 8, 1, 1 < i < 4, i > 2, 3, 2) for i in range(1, 5)}
    hgnet = timm.models.hgnet.HighPerfGpuNet({"stem_type": "v2", "stem_chs": [8, 8], **stages}, num_classes=0)
    write("hgnetv2", Features(shaken(hgnet)), ["features"], lambda found: found[0].mean((2, 3)), config=config,
          opset=17, file="model.onnx")  # fmt: skip


if __name__ == "__main__":
    torch.manual_seed(0)
    shutil.rmtree(OUT, ignore_errors=True)
    write_transformers()
    write_timm()
    for path in sorted(OUT.iterdir()):
        print(path.name, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) // 1000, "kB")
