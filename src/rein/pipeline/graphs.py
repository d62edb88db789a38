"""Settings that ComfyUI and InvokeAI leave in their pictures, read into the fields of a request.

ComfyUI writes the whole graph of nodes that made the picture. The sampler node is looked for, and from there the links
are followed back to prompts, size, model and LoRAs. What is on the way and not understood is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rein.pipeline.infotext_reader import ForeignSettings

_SAMPLERS = ("KSampler", "KSamplerAdvanced")
_LATENTS = ("EmptyLatentImage", "EmptySD3LatentImage")
_LOADERS = ("CheckpointLoaderSimple", "CheckpointLoader", "UNETLoader")
_TEXTS = ("CLIPTextEncode", "CLIPTextEncodeSDXL")
_HARMLESS = ("VAEDecode", "VAELoader", "SaveImage", "PreviewImage", "CLIPSetLastLayer", "LoraLoader")
_MOST_NODES = 10_000

Node = Mapping[str, Any]


def from_comfyui(graph: Mapping[str, Any]) -> ForeignSettings:
    """The settings of the first sampler node in a graph as ComfyUI's API form writes it."""
    nodes = {str(key): node for key, node in list(graph.items())[:_MOST_NODES] if _is_node(node)}
    read = ForeignSettings(fields={"prompt": ""})
    used = [(key, node) for key, node in nodes.items() if node["class_type"] in _SAMPLERS]
    if not used:
        read.unread.append("no KSampler node: nothing of this graph is understood")
        return read
    _, sampler = used[0]
    read.unread += [f"node {key} ({node['class_type']}): only one sampler is read" for key, node in used[1:]]
    inputs = sampler["inputs"]
    read.take("seed", inputs.get("seed", inputs.get("noise_seed")), int)
    read.take("steps", inputs.get("steps"), int)
    read.take("guidance_scale", inputs.get("cfg"), float, "cfg")
    read.take_sampler(str(inputs.get("sampler_name", "")), str(inputs.get("scheduler", "normal")))
    if inputs.get("denoise", 1) != 1:
        read.unread.append(f"denoise: {inputs['denoise']}")
    for name, link in (("prompt", "positive"), ("negative_prompt", "negative")):
        read.fields[name] = next((_text(nodes, node) for node in _behind(nodes, sampler, link, _TEXTS)), "")
    for node in _behind(nodes, sampler, "latent_image", _LATENTS):
        read.take("width", node["inputs"].get("width"), int)
        read.take("height", node["inputs"].get("height"), int)
    _enter_model(read, nodes, sampler)
    known = (*_SAMPLERS, *_LATENTS, *_LOADERS, *_TEXTS, *_HARMLESS)
    read.unread += [f"node {key} ({n['class_type']})" for key, n in nodes.items() if n["class_type"] not in known]
    read.fields["dialect"] = "comfy"
    return read


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def _enter_model(read: ForeignSettings, nodes: Mapping[str, Node], sampler: Node) -> None:
    loras = []
    for node in _behind(nodes, sampler, "model", (*_LOADERS, "LoraLoader")):
        inputs = node["inputs"]
        if node["class_type"] == "LoraLoader":
            loras.append(f"LoRA: {inputs.get('lora_name')} {inputs.get('strength_model')}")
        else:
            read.model = str(inputs.get("ckpt_name", inputs.get("unet_name", "")))
    read.unread += [f"{lora} (give it with --lora)" for lora in loras]


def _text(nodes: Mapping[str, Node], node: Node) -> str:
    value = node["inputs"].get("text", node["inputs"].get("text_g", ""))
    if isinstance(value, list):  # a link to a node that only holds text
        value = nodes.get(str(value[0]), {"inputs": {}})["inputs"].get("text", "")
    return value if isinstance(value, str) else ""


def _behind(nodes: Mapping[str, Node], node: Node, link: str, kinds: tuple[str, ...]) -> Iterator[Node]:
    """Nodes of some kinds that are reached backwards through `link`, nearest first."""
    waiting, seen = [node["inputs"].get(link)], set()
    while waiting:
        value = waiting.pop(0)
        key = str(value[0]) if isinstance(value, list) and value else ""
        if key in seen or key not in nodes:
            continue
        seen.add(key)
        if nodes[key]["class_type"] in _SAMPLERS:
            continue  # what is behind it belongs to another picture
        if nodes[key]["class_type"] in kinds:
            yield nodes[key]
        waiting += [entry for entry in nodes[key]["inputs"].values() if isinstance(entry, list)]


_INVOKE: dict[str, tuple[str, Any]] = {
    "positive_prompt": ("prompt", str),
    "negative_prompt": ("negative_prompt", str),
    "seed": ("seed", int),
    "steps": ("steps", int),
    "cfg_scale": ("guidance_scale", float),
    "cfg_rescale_multiplier": ("guidance_rescale", float),
    "width": ("width", int),
    "height": ("height", int),
}
_INVOKE_SILENT = {"app_version", "generation_mode", "rand_device", "positive_style_prompt", "negative_style_prompt"}


def from_invokeai(metadata: Mapping[str, Any]) -> ForeignSettings:
    """The settings in InvokeAI's metadata."""
    read = ForeignSettings(fields={"prompt": "", "dialect": "compel"})
    for key, value in metadata.items():
        if value in (None, "", [], {}) or key in _INVOKE_SILENT:
            continue
        if key in _INVOKE:
            name, convert = _INVOKE[key]
            read.take(name, value, convert, key)
        elif key == "scheduler":
            read.take_sampler(str(value), None, key)  # "_k" at its end means Karras
        elif key == "clip_skip":
            read.take("clip_skip", value, lambda skipped: int(skipped) + 1, key)
        elif key == "model" and isinstance(value, dict):
            read.model = str(value.get("name", value.get("model_name", "")))
            read.model_hash = str(value.get("hash", ""))
        else:
            read.unread.append(f"{key}: {str(value)[:80]}")
    return read
