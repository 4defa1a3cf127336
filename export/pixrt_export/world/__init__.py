"""The procedural world: scenes of simple shapes, instructions about them, and the right answer to every one.

`scene` draws scenes and says which side of the split one is on; `instructions` says what can be asked and what comes
out; `drawing` turns a scene into pixels; `captions` names it for text-to-image; `pairs` is all of it as training data;
`presence` checks what a generated picture shows; `sheet` lays pictures out. None of it imports PyTorch.
"""
