"""Several machines: the server and the gallery on a Ray cluster. Ray does what is distributed; nothing here does.

Imported only by `pixrt serve --ray` and `pixrt batch --ray`: Ray is an extra.
"""
