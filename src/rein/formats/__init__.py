"""Files of weights: what is in them, read strictly and written whole.

- `header`, `tensors`: safetensors, one file of named tensors.
- `weights`: any single file of weights: safetensors, and PyTorch's own (`archive`, `legacy`), whose pickles are read
  without running them (`pickles`, `pickle_names`, `pickle_tensors`, `pickle_state`).
- `sources`, `convert`, `merge`: models written in another form, and several mixed into one.
- `places`, `detect`, `probe`: what a file of weights is, from names and shapes, or by asking the network.
- `keys`, `key_names`: the maps between original and native names. `fill`: networks filled through them.
- `single`, `diffusers_folder`, `diffusers_configs`: models read from single files and diffusers folders; `saving`,
  `diffusers_output`: written as such.
- `folder`: what one of Rein's own folders describes, without its weights.
- `checkpoint`: models of every form loaded, and saved as such a folder.
- `upscaler_keys`, `upscalers`: networks that enlarge finished pictures.
- `inspect`, `inspect_model`: what a folder or a file holds.
"""
