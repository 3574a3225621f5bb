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
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

OUT = Path(__file__).parent / "tiny"
SIZE, WIDTH = 32, 16
WORDS = ["<pad>", "<unk>", "<start>", "a", "photo", "of", "boat", "sunset", "two", "people", ".", "<end>"]
TEXTS = ["boat", "sunset", "two people", "a photo of two people."]
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


class TextFeatures(torch.nn.Module):
    """A network that returns the vector of a text: CLIP's with its projection, or SigLIP's."""

    def __init__(self, model: Any, projected: bool):
        super().__init__()
        self.model, self.projected = model, projected

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        vector = self.model.text_model(ids).pooler_output
        return self.model.text_projection(vector) if self.projected else vector


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
    network: torch.nn.Module,
    example: torch.Tensor,
    path: Path,
    input_name: str,
    names: list[str],
    opset: int,
    variable: dict[int, str] | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network,
        (example,),
        path,
        input_names=[input_name],
        output_names=names,
        dynamic_axes={input_name: {0: "batch", **(variable or {})}, **{name: {0: "batch"} for name in names}},
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
    tokens = ["last_hidden_state"]
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
    convnext = tf.ConvNextV2Model(
        tf.ConvNextV2Config(hidden_sizes=[8, 16, 24], depths=[1, 1, 1], num_stages=3, image_size=SIZE)
    )
    write("convnextv2", Outputs(shaken(convnext), tokens), tokens, lambda found: found[0].mean((2, 3)),
          processor=processor(tf.ConvNextImageProcessorPil), config=convnext.config.to_dict(), opset=13)  # fmt: skip


def write_text_towers() -> None:
    """Write CLIP and SigLIP with their text encoders, and the library's scores of `TEXTS` for each photo."""
    text = {name: TRANSFORMER[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    text |= {"intermediate_size": 24, "vocab_size": len(WORDS), "max_position_embeddings": 12}
    clip_text, siglip_text = {**text, "eos_token_id": len(WORDS) - 1}, {**text, "projection_size": WIDTH}
    clip = tf.CLIPModel(tf.CLIPConfig(text_config=clip_text, vision_config=TRANSFORMER, projection_dim=12))
    siglip = tf.SiglipModel(tf.SiglipConfig(text_config=siglip_text, vision_config=TRANSFORMER))
    clip, siglip = shaken(clip), shaken(siglip)
    with torch.no_grad():
        siglip.logit_scale.fill_(1.1)
        siglip.logit_bias.fill_(-0.4)
        clip.text_projection.weight.neg_()  # otherwise, all cosines of these random networks are negative
    names = ["image_embeds", "last_hidden_state"]
    image = tf.CLIPVisionModelWithProjection(clip.config.vision_config)
    image.vision_model, image.visual_projection = clip.vision_model, clip.visual_projection
    write("clip", Outputs(image.eval(), names), names, lambda found: found[0],
          processor=processor(tf.CLIPImageProcessorPil), config=clip.config.to_dict(), opset=14,
          file="onnx/vision_model.onnx")  # fmt: skip
    names = ["last_hidden_state", "pooler_output"]
    write("siglip2", Outputs(siglip.vision_model, names), names, lambda found: found[1],
          processor=processor(tf.SiglipImageProcessorPil), config=siglip.config.to_dict(), opset=16,
          file="onnx/vision_model.onnx")  # fmt: skip
    write_texts("clip", clip, None)
    write_texts("siglip2", siglip, 12)


def write_texts(name: str, model: Any, length: int | None) -> None:
    """Write a tokenizer, a text encoder, its sigmoid and the library's scores."""
    folder, photos = OUT / name, draw_photos()
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    start, end = (("<start>", 2), ("<end>", len(WORDS) - 1))
    if length is None:
        tokenizer.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=[start, end])
    else:
        tokenizer.post_processor = TemplateProcessing(single="$A <end>", special_tokens=[end])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    names = ["pooler_output"] if length else ["text_embeds"]
    network = TextFeatures(model, length is None).eval()
    export(network, torch.tensor([[2, 5, 6]] if length is None else [[5] * length]), folder / "onnx/text_model.onnx",
           "input_ids", names, 14, {1: "tokens"} if length is None else {})  # fmt: skip
    config = json.loads((folder / "preprocessor_config.json").read_text())
    mean, deviation = torch.tensor(config["image_mean"]), torch.tensor(config["image_std"])
    pixels = ((torch.tensor(photos) / 255 - mean) / deviation).permute(0, 3, 1, 2)
    scores = []
    with torch.no_grad():
        for text in TEXTS:
            if length:
                tokenizer.enable_padding(length=length, pad_id=0, pad_token="<pad>")
            ids = torch.tensor([tokenizer.encode(text).ids])
            found = model(input_ids=ids, pixel_values=pixels)
            if length:
                scores.append(torch.sigmoid(found.logits_per_image)[:, 0])
            else:
                scores.append((found.image_embeds @ found.text_embeds.T)[:, 0])
        numbers = {key: getattr(model, key) for key in ("logit_scale", "logit_bias") if length}
    np.savez_compressed(folder / "scores.npz", scores=torch.stack(scores, 1).numpy(), texts=np.array(TEXTS))
    if length:
        save_file({key: value.detach().reshape(1) for key, value in numbers.items()}, folder / "model.safetensors")


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
    write_text_towers()
    write_timm()
    for path in sorted(OUT.iterdir()):
        print(path.name, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) // 1000, "kB")
