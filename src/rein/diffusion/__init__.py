"""The mathematics of diffusion over any `denoise(x, sigma) -> x0`: no networks, no files, no hidden state."""
