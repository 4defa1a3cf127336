"""Training data: pairs of pictures and the instruction that leads from one to the other. Does not import PyTorch.

`pairs` says what a data set is; `folders` reads the layouts on disk; `check` looks for what is wrong in one.
"""
