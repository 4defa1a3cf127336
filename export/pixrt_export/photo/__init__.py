"""The world of photographs: pictures as photographs are, and edits whose right answers are computed.

`sources` has free photographs, `procedural` makes pictures of natural statistics, `crops` cuts samples out of both;
`tones`, `details` and `looks` are the edits, `edits` lists them, `instructions` says how each is asked; `judge` says
whether one is right; `pairs` is all of it as training data. None of it imports PyTorch.
"""
