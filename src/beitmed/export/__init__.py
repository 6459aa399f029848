"""A finished run's network in forms that others load without this package.

`forms` says what has which form, `portable` makes one module of a network, `hugging_face` and
`onnx_file` write it and run it again as a stranger would, `card` says what it is, and `output`
makes the folder.
"""
