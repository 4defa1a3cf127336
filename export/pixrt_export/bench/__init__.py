"""What a measurement of speed is compared with: the work in a network, and the peaks of the machine.

`work` counts FLOPs and bytes in an ONNX graph, `peaks` measures a matrix product and a copy, `report` draws the page of
`pixrt bench`. Nothing here imports PyTorch.
"""
