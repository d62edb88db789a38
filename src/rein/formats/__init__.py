"""Files of weights: what is in them, read strictly and written whole.

- `tensors`: safetensors, one file of named tensors.
- `folder`: what a model folder describes, without its weights.
- `checkpoint`: a model folder, saved and loaded.
- `inspect`: what a folder or a file holds, from headers alone.
"""
