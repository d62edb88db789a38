"""What a picture says of how it was made: Rein's own manifest, or the settings that other programs leave in it.

Read as data: AUTOMATIC1111's and Forge's infotext ("parameters"), ComfyUI's graph ("prompt"), InvokeAI's metadata
("invokeai_metadata"). What has no counterpart in a `Request` is named in `unread`, not dropped in silence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rein.errors import DamagedFileError, InputError
from rein.image_files import read_texts
from rein.pipeline.graphs import from_comfyui, from_invokeai
from rein.pipeline.infotext_reader import from_infotext
from rein.pipeline.request import Request


@dataclass(frozen=True)
class Recorded:
    """The settings in a picture.

    Fields:
        source: "rein", "a1111", "comfyui" or "invokeai".
        request: what makes the picture again.
        model, model_hash: as the picture names them; "" where it does not.
        unread: settings of another program that a request cannot hold, as "name: value".
        manifest: Rein's own record, empty for other programs.
    """

    source: str
    request: Request
    model: str = ""
    model_hash: str = ""
    unread: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)


def read_recorded(path: str | os.PathLike[str]) -> Recorded:
    """The settings in the PNG, JPEG or WebP file at `path`.

    Raises:
        InputError: no such file, no settings in it, or settings that are out of Rein's ranges.
        DamagedFileError: the file, or what is written in it, cannot be read.
    """
    texts = read_texts(path)
    if "rein" in texts:
        return _own(_parsed(texts["rein"], path), path)
    readers = (("a1111", "parameters"), ("comfyui", "prompt"), ("invokeai", "invokeai_metadata"))
    found = next(((source, key) for source, key in readers if key in texts), None)
    if found is None:
        raise InputError(f"{os.fspath(path)} holds no settings: only pictures as Rein or a like program saved them do")
    source, key = found
    if source == "a1111":
        read = from_infotext(texts[key])
    else:
        read = (from_comfyui if source == "comfyui" else from_invokeai)(_parsed(texts[key], path))
    return Recorded(source, Request.model_validate(read.fields), read.model, read.model_hash, tuple(read.unread))


def _own(manifest: Mapping[str, Any], path: str | os.PathLike[str]) -> Recorded:
    model = manifest.get("model")
    if not isinstance(model, dict) or not isinstance(manifest.get("request"), dict):
        raise DamagedFileError(f"cannot read {os.fspath(path)}: its settings are not whole")
    request = Request.model_validate(manifest["request"])
    return Recorded("rein", request, str(model.get("name", "")), str(model.get("sha256", "")), (), manifest)


def _parsed(text: str, path: str | os.PathLike[str]) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"cannot read {os.fspath(path)}: its settings are not valid JSON") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"cannot read {os.fspath(path)}: its settings are no object of named values")
    return content
