"""How good a model is, as numbers with their confidence intervals.

`cases` picks questions of the procedural world, `accuracy` asks them and tells which answer came, `sweep` does so over
the guidance scales, `gate` says whether it is good enough; `text_to_image` makes pictures from captions
and look what is on them; `clip` measures edits of photographs in CLIP's space, with `clip_network`, the only one that
imports PyTorch. `statistics` has the intervals, `plots` and `files` what is written.
"""
