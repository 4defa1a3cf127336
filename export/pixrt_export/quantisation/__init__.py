"""INT8 by calibration on edits: which edits, what the UNet sees in them, quantising it, and what is kept back."""
