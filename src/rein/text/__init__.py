"""Words: the tokenizer, and prompts made into what guides a U-Net."""
