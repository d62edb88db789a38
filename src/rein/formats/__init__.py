"""Files of weights: what is in them, read strictly and written whole.

- `tensors`: safetensors, one file of named tensors.
- `checkpoint`: a model folder.
"""
