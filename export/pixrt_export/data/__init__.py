"""Training data: pairs of pictures and the instruction that leads from one to the other. Does not import PyTorch.

`pairs` says what a data set is. `folders` opens one on disk: `original`, `image_folder` and `hugging_face` read the
layouts, `rows` and `stored` are what they have in common, `fitting` brings both pictures of a pair to one size.
`check`, with `report`, looks for what is wrong in one; `writing` writes one.
"""
