"""Training: an autoencoder, an editing model or a LoRA, from pairs of pictures.

`options` and `plan` say what to do; `run` and `stages` do it, with one `loop` for all: `autoencoder`, `edit` and `lora`
say what is learned, `order` what is random, `state` and `run_folder` what is kept, `log` and `plots` what is left to
look at.
Importing this package or `options` imports no PyTorch.
"""
